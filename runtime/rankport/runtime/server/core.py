"""Core of a server, which all its fronts share: models, admission, limits, threads, statistics, settings."""

from dataclasses import dataclass

from rankport.runtime.server.admission import Admission
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.lifecycle import Lifecycle, Loader
from rankport.runtime.server.limits import RequestLimits
from rankport.runtime.server.models import ServedModels
from rankport.runtime.server.statistics import Statistics
from rankport.runtime.server.submitter import Submitter


@dataclass(frozen=True, slots=True)
class Core:
    """Parts of a server that know no protocol. They live on one event loop, that of the server's thread."""

    models: ServedModels
    lifecycle: Lifecycle
    admission: Admission
    limits: RequestLimits
    submitter: Submitter
    statistics: Statistics
    config: ServerConfig

    @classmethod
    def of(cls, models: ServedModels, loader: Loader, config: ServerConfig) -> "Core":
        """Makes admission, limits and threads by the settings."""
        return cls(
            models=models,
            lifecycle=Lifecycle(models, loader, config),
            admission=Admission(config),
            limits=RequestLimits.of(config),
            submitter=Submitter(config.tokenizer_threads),
            statistics=Statistics(),
            config=config,
        )
