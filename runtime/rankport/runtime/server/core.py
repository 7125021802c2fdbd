"""Core of a server, which all its fronts share: models, admission, limits, threads, statistics, settings."""

from dataclasses import dataclass

from rankport.runtime.server.admission import Admission
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.limits import RequestLimits
from rankport.runtime.server.models import ServedModels
from rankport.runtime.server.statistics import Statistics
from rankport.runtime.server.submitter import Submitter


@dataclass(frozen=True, slots=True)
class Core:
    """Parts of a server that know no protocol. They live on one event loop, that of the server's thread."""

    models: ServedModels
    admission: Admission
    limits: RequestLimits
    submitter: Submitter
    statistics: Statistics
    config: ServerConfig

    @classmethod
    def of(cls, models: ServedModels, config: ServerConfig) -> "Core":
        """Makes admission, limits and threads by the settings."""
        submitter = Submitter(config.tokenizer_threads)
        return cls(models, Admission(config), RequestLimits.of(config), submitter, Statistics(), config)
