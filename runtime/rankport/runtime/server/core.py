"""Core of a server, which all its fronts share: models, admission, limits, threads, statistics, settings."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rankport.protos.installed.extras import extras_named
from rankport.protos.priorities import Priority
from rankport.runtime.kinds.capabilities import Capability
from rankport.runtime.server.admission import Admission
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.jobs.book import JobBook
from rankport.runtime.server.jobs.roots import JobRoots
from rankport.runtime.server.jobs.runner import JobRunner
from rankport.runtime.server.jobs.work import Places
from rankport.runtime.server.lifecycle.lifecycle import Lifecycle
from rankport.runtime.server.lifecycle.loader import Loader
from rankport.runtime.server.lifecycle.orders import JoinPages, Others, TakeOrder
from rankport.runtime.server.limits import RequestLimits
from rankport.runtime.server.models.models import ServedModels
from rankport.runtime.server.observing.call import current_call, said_model
from rankport.runtime.server.observing.observer import Observer
from rankport.runtime.server.observing.readiness import Readiness
from rankport.runtime.server.observing.state import KnownScores, ServerState
from rankport.runtime.server.scoring.scoring import Scoring
from rankport.runtime.server.security.certificates import Certificates
from rankport.runtime.server.security.exposure import check_exposure
from rankport.runtime.server.security.guard import Guard
from rankport.runtime.server.statistics import Statistics
from rankport.runtime.server.submitter import Submitter


@dataclass(frozen=True, slots=True)
class Core:
    """Parts of a server that know no protocol. They live on one event loop, that of the server's thread."""

    models: ServedModels
    lifecycle: Lifecycle
    take: TakeOrder
    join_pages: JoinPages
    live: Callable[[], bool]
    scoring: Scoring
    admission: Admission
    limits: RequestLimits
    submitter: Submitter
    jobs: JobRunner | None
    statistics: Statistics
    config: ServerConfig
    observer: Observer
    readiness: Readiness
    guard: Guard
    certificates: Certificates | None

    @classmethod
    def of(
        cls, models: ServedModels, loader: Loader, config: ServerConfig, others: Others | None = None
    ) -> "Core":
        """Makes admission, limits and threads by the settings. `others` are the other fronts, if there are any.

        Raises `InvalidRequest` where others reach the server unguarded, or files of its security cannot be used.
        """
        check_exposure(config.hosts, config.security)
        observer = Observer(config.observing)
        admission = Admission(config, observer)
        readiness = Readiness(config.observing, lambda: admission.overloads)
        submitter = Submitter(config.tokenizer_threads)
        lifecycle = Lifecycle(
            models, loader, config, lambda model: observer.book.let_go(model, models.versions)
        )
        return cls(
            models=models,
            scoring=Scoring(models, config, lambda: admission.pending[0], submitter.threads),
            lifecycle=lifecycle,
            take=lifecycle.take if others is None else others.take,
            join_pages=_alone if others is None else others.join_pages,
            live=(lambda: not readiness.hopeless) if others is None else others.live,
            admission=admission,
            limits=RequestLimits.of(config),
            submitter=submitter,
            statistics=Statistics(),
            config=config,
            observer=observer,
            readiness=readiness,
            guard=Guard.of(config.security, config.host),
            certificates=Certificates.of(config.security),
            jobs=_jobs(models, loader, config, submitter),  # last: it holds its file until it is closed
        )

    def look(self) -> Mapping[str, bool]:
        """Looks which models can take requests."""
        return self.readiness.look(self.models.alive(), self.models.stands_for(), self.models.counts())

    def ready(self, model: str | None = None) -> bool:
        """Says whether a model, by name or NAME@VERSION, or each of them can take requests now."""
        if model is not None and "@" in model:
            return not self.admission.leaving and not self.readiness.reasons.keys() & {"", model}
        ready = self.readiness.ready(self.models.alive(), self.models.stands_for())
        fit = all(ready.values()) if model is None else ready.get(model, False)
        return fit and not self.admission.leaving

    def check_unread(
        self, capability: Capability | None, timeout_s: float | None = None, nbytes: int = 0
    ) -> None:
        """Refuses a request that is for a model of some capability, or any, where nothing in it could help it in.

        Asked before it is read, so that a refusal costs next to nothing. Raises as `Admission.enter`, and `Overloaded`
        where all such models, of those that the call's client said, would refuse any request like those of late.
        """
        self.admission.check(nbytes)
        may_be_known = self.config.score_cache_bytes and capability in ("scores", None)
        if not may_be_known:  # else it may need no room
            call = current_call()
            priority: Priority = "interactive" if call is None else call.priority
            self.models.check_room(capability, said_model(), timeout_s, priority)

    async def close_jobs(self, within_s: float = 0.0) -> None:
        """Breaks off the job that runs, behind its batch if that ends in time, to go on after the next start.

        Twice does nothing.
        """
        if self.jobs is not None:
            await asyncio.to_thread(self.jobs.close, within_s)

    def state(self) -> ServerState:
        """Tells what the server has now; any thread may ask."""
        pending, nbytes, opened = self.admission.pending
        known = self.scoring.cache.counts()
        return ServerState(
            pending_requests=pending,
            pending_bytes=nbytes,
            open_calls=opened,
            overloads=self.admission.overloads,
            saturated_s=self.readiness.saturated_s,
            reasons=self.readiness.reasons,
            models={f"{each.name}@{each.version}": each for each in self.models.descriptions()},
            counts=self.models.counts(),
            scores=KnownScores(known.hits, known.misses, known.entries, known.nbytes),
            refusals=self.admission.refusals(),
        )

    def metrics_page(self) -> Callable[[], bytes]:
        """Gives what writes /metrics. Raises `MissingExtra` where prometheus-client is not installed."""
        with extras_named("/metrics"):
            from rankport.runtime.server.observing.metrics import ServerMetrics
        own_page = ServerMetrics(self.observer.book, self.state).page
        return lambda: self.join_pages(own_page())

    def own_page(self) -> bytes:
        """Writes the metrics of this process alone; none where prometheus-client is not installed."""
        try:
            from rankport.runtime.server.observing.metrics import ServerMetrics
        except ModuleNotFoundError:
            return b""
        return ServerMetrics(self.observer.book, self.state).page()


def _alone(page: bytes) -> bytes:
    return page


def _jobs(
    models: ServedModels, loader: Loader, config: ServerConfig, submitter: Submitter
) -> JobRunner | None:
    if config.jobs_file is None:
        return None
    places = Places(JobRoots(config.job_roots), loader.store)
    return JobRunner(JobBook(config.jobs_file), places, models, submitter)


@contextmanager
def metrics_port(core: Core) -> Iterator[int | None]:
    """Opens the port of /metrics for the block, if the settings ask for one, and gives its number.

    Raises `Unavailable` where the address is taken, `MissingExtra` where prometheus-client is not installed.
    """
    config = core.config.observing
    if config.metrics_port is None:
        yield None
        return
    page = core.metrics_page()
    from rankport.runtime.server.observing.metrics_port import MetricsPort

    tls = None if core.certificates is None else core.certificates.ssl_context()
    port = MetricsPort(
        config.metrics_host, config.metrics_port, page, _scraper_guard(core), tls, shared=core.config.is_front
    )
    try:
        yield port.port
    finally:
        port.close()


def _scraper_guard(core: Core) -> Callable[[str | None], object]:
    """Makes a guard for threads; that of the calls is the event loop's."""
    guard, lock = Guard.of(core.config.security, core.config.host), threading.Lock()

    def let_in(authorization: str | None) -> None:
        with lock:
            guard.caller(authorization, "metrics")

    return let_in
