"""Server: its event loop in a thread of its own, start, health, and the graceful stop. Fronts speak the protocols."""

import asyncio
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Self

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import ModelDescription
from rankport.protos.versions import ModelAlias, ModelVersion
from rankport.protos.wording import type_told
from rankport.runtime.kinds.capabilities import HoldsModel, Model
from rankport.runtime.server.config import DEFAULTS, ServerConfig
from rankport.runtime.server.core import Core, metrics_port
from rankport.runtime.server.counts import CallCounts
from rankport.runtime.server.fronts import Fronts, Ports
from rankport.runtime.server.grpc.address import address_of
from rankport.runtime.server.lifecycle.loader import Loader, NoLoader
from rankport.runtime.server.lifecycle.orders import AdminOrder, Others
from rankport.runtime.server.models.models import ServedModels
from rankport.runtime.server.observing.open_files import OpenFiles
from rankport.runtime.server.thread_switches import ThreadSwitches

_log = logging.getLogger(__name__)
_HEALTH_PERIOD_S = 0.5
# After the last call the port refuses calls until none comes for a moment: those that are on their way as it closes
# are told by gRPC that they were cancelled, and on a busy machine a moment is long.
_QUIET_S, _LINGER_S = 0.25, 2.0
_BATCH_S = 5.0  # past the grace, for the batch of a job


class Server:
    """Serves models that its caller loaded, and closes, over gRPC and HTTP.

    >>> with Server({"jobs": ranker}, ServerConfig(port=0)) as server:
    ...     Client(server.address).score(prefix, items)
    """

    def __init__(
        self,
        models: Mapping[str, Model | HoldsModel],
        config: ServerConfig = DEFAULTS,
        loader: Loader | None = None,
        others: Others | None = None,
    ) -> None:
        """Takes the models by the names that requests use, and what may load others while it runs.

        `others` are the other fronts of a server of several.

        Raises `InvalidRequest` if there is no model, or anything else among them, others would reach the server
        unguarded, or certificates or the file of clients cannot be used.
        """
        if config.fronts:
            raise InvalidRequest(
                f"fronts is {config.fronts}: a server in this process has none; `Supervisor` starts processes"
            )
        served = ServedModels(_models(models), config.canary_seed)
        self._core = Core.of(served, loader or NoLoader(), config, others)
        self._bound: Future[Ports] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked: asyncio.Event = asyncio.Event()
        self._grace_s, self._open_files = config.grace_s, OpenFiles()
        self._switches = ThreadSwitches(config.switch_interval_s)
        self._metrics_port: int | None = None
        self._responded = True
        self._thread = threading.Thread(target=self._run, name="rankport-server", daemon=True)

    def start(self) -> Self:
        """Returns when calls are answered, by all that its state file has too.

        Raises `Unavailable` if the address cannot be taken, `InvalidRequest` for a state file that cannot be used.
        """
        self._responded = False  # until there is a loop
        self._thread.start()
        self._bound.result()
        self._switches.shorten()
        return self

    @property
    def port(self) -> int:
        """Port that it listens on, also where the config says 0; 0 of a unix socket. Waits for `start`."""
        return self._bound.result().grpc

    @property
    def ports(self) -> Ports:
        """Ports that it listens on. Waits for `start`."""
        return self._bound.result()

    @property
    def http_address(self) -> str:
        """host:port of HTTP, for a client on this machine; "" where there is none. Waits for `start`."""
        port = self._bound.result().http
        return "" if port is None else address_of(self._core.config.http_host, port)

    @property
    def address(self) -> str:
        """host:port, or unix:PATH, for a client on this machine."""
        return address_of(self._core.config.host, self.port)

    @property
    def encrypts(self) -> bool:
        """Says whether its ports speak TLS."""
        return self._core.certificates is not None

    @property
    def admin_address(self) -> str:
        """host:port of admin calls, for a client on this machine; `address` where they have no port of their own."""
        port = self._bound.result().admin
        return self.address if port is None else address_of(self._core.config.security.admin_host, port)

    @property
    def metrics_port(self) -> int | None:
        """Port of /metrics, None where there is none. Waits for `start`."""
        self._bound.result()
        return self._metrics_port

    @property
    def models(self) -> tuple[ModelDescription, ...]:
        """Descriptions of what it serves, under the names of requests."""
        return self._core.models.descriptions()

    @property
    def counts(self) -> CallCounts:
        """Calls by outcome, readable from any thread."""
        return self._core.admission.counts

    def take(self, order: AdminOrder) -> "Future[ModelVersion | ModelAlias]":
        """Does what is ordered, here alone; any thread may ask, from `start` on. The future raises as `Lifecycle`."""
        assert self._loop is not None, "it has started"
        return asyncio.run_coroutine_threadsafe(self._core.lifecycle.take(order), self._loop)

    def responds(self) -> bool:
        """Says whether the event loop has run since this was asked last; one thread may ask.

        True before its start and from its end on: nothing is to be answered then.
        """
        loop, responded = self._loop, self._responded
        if loop is None or not responded:
            return responded
        self._responded = False
        try:
            loop.call_soon_threadsafe(self._respond)
        except RuntimeError:  # it is closed
            self._responded = True
        return True

    def goes_on(self) -> bool:
        """Says whether its event loop goes on, as `responds` does, and no engine has stopped or hangs."""
        return self.responds() and self._core.live()

    def own_page(self) -> bytes:
        """Writes the metrics of this process alone. Any thread may ask."""
        return self._core.own_page()

    def stop(self, grace_s: float | None = None) -> None:
        """Reports NOT_SERVING for the config's `lame_duck_s`, then refuses new calls with UNAVAILABLE, finishes those
        in progress, and cuts off the rest after `grace_s`.

        Returns when the port is free. `grace_s` defaults to the config's. May be called twice, and before
        `start`.
        """
        if self._loop is None:
            if self._thread.ident is None and self._core.jobs is not None:
                self._core.jobs.close()  # all that a server holds before its start
            return
        self._grace_s = self._core.config.grace_s if grace_s is None else grace_s
        with suppress(RuntimeError):  # the loop is closed: it ended by itself
            self._loop.call_soon_threadsafe(self._stop_asked.set)
        self._thread.join()
        self._switches.restore()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _respond(self) -> None:
        self._responded = True

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._bound.done():
                _log.exception("the server ended")
            else:
                self._bound.set_exception(error)
        finally:
            self._respond()  # nothing that it is asked is answered any more

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._respond()
        self._loop.set_exception_handler(self._open_files)
        try:
            with metrics_port(self._core) as self._metrics_port:
                await self._core.lifecycle.restore()
                await self._answer()
        finally:
            await self._core.close_jobs()
            await self._core.lifecycle.close()

    async def _answer(self) -> None:
        fronts = Fronts(self._core)
        fronts.report(self._core.look())
        self._bound.set_result(await fronts.start())
        if self._core.jobs is not None:
            self._core.jobs.start(asyncio.get_running_loop())
        watch = asyncio.create_task(self._watch_health(fronts))
        await self._stop_asked.wait()
        watch.cancel()
        self._core.admission.leaving = True
        fronts.not_serving()
        await asyncio.sleep(self._core.config.lame_duck_s)
        admission = self._core.admission
        self._core.lifecycle.stop()
        # Beside the requests: a batch may outlast their grace.
        jobs = asyncio.create_task(self._core.close_jobs(self._grace_s + _BATCH_S))
        done = await admission.drain(self._grace_s)
        await fronts.stop(quiet=done and await admission.quiet(_QUIET_S, _LINGER_S))
        await jobs
        self._core.submitter.close()

    async def _watch_health(self, fronts: Fronts) -> None:
        """Reports health: a model whose engine stopped no longer counts as serving, nor does the server as a whole."""
        while True:
            await asyncio.sleep(_HEALTH_PERIOD_S)
            self._open_files.look()
            try:
                fronts.report(self._core.look())
            except Exception:  # want of memory, say; health would stay as it is for ever
                _log.exception("the health of the models could not be looked at")


def _models(given: object) -> Mapping[str, Model]:
    """Takes models by name, each as it was loaded. Raises `InvalidRequest` for anything else."""
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"models is {type_told(given)}: give loaded models by name")
    models = {name: held.model if isinstance(held, HoldsModel) else held for name, held in given.items()}
    for name, model in models.items():
        if not isinstance(name, str) or not hasattr(model, "capabilities"):
            raise InvalidRequest(
                f"models[{name!r:.40}] is {type_told(model)}: give a loaded model by its name, "
                "Scorer.load(bundle) say"
            )
    return models
