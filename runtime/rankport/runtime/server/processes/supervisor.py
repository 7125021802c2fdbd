"""`Supervisor`: a server of several processes as one: starts them, starts again what ends, and stops all in good order.

It answers no call itself and holds no model.
"""

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import ModelDescription
from rankport.runtime.config import EngineConfig
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import CallCounts
from rankport.runtime.server.grpc.address import address_of, front_host, is_unix, several_unix
from rankport.runtime.server.lifecycle.memory import locked
from rankport.runtime.server.processes.control import EngineOrders, FrontOrders, Logging
from rankport.runtime.server.processes.folder import temporary_folder
from rankport.runtime.server.processes.hub import Hub
from rankport.runtime.server.processes.ports import ReservedPort
from rankport.runtime.server.processes.slot import Slot
from rankport.runtime.server.processes.watch import Watch

_MARGIN_S = 10.0  # past what a stop may take


@dataclass(frozen=True, slots=True)
class Work:
    """Bundles to serve, and by which settings."""

    bundles: Sequence[str]
    server: ServerConfig
    engine: EngineConfig
    store: str | None = None
    frozen: bool = False
    write_back: bool = False
    json_log: bool = False


class Supervisor:
    """A server whose `fronts` are processes, from `start` to `stop`.

    >>> with Supervisor(Work(["model.bundle"], ServerConfig(port=0, fronts=2), EngineConfig())) as server:
    ...     Client(server.address).score(prefix, items)
    """

    def __init__(self, work: Work) -> None:
        """Raises `InvalidRequest` for settings that do not go with processes."""
        check_fronts(work.server)
        self._work = work
        self._open = ExitStack()
        self._engines: list[Slot] = []
        self._fronts: list[Slot] = []
        self._answering: tuple[Slot, ...] = ()  # fronts, once all have started
        self._slots: list[Slot] = []  # of all, also while they stop
        self._hub = Hub(
            lambda: [slot.child for slot in self._answering],
            lambda: {slot.name: slot.restarts for slot in self._slots},
            lambda: str(self._server.state_file),  # there is one from the start of fronts on
        )
        self.models: tuple[ModelDescription, ...] = ()
        self.counts = CallCounts()
        self._server = work.server

    def start(self) -> Self:
        """Returns when calls are answered. Raises as what loads the bundles, and `Unavailable` for a taken address."""
        with ExitStack() as opened:
            opened.callback(self._kill_all)
            folder = opened.enter_context(temporary_folder())
            self._watch = Watch(
                lambda: [slot.child for slot in self._slots], self._work.server.observing.hung_process_s
            )
            opened.callback(self._watch.close)
            self._lock_state(opened)
            self._server = self._reserved(opened)
            engine = self._start_engines(folder)
            self._start_fronts(folder, engine)
            self._open = opened.pop_all()
        return self

    @property
    def address(self) -> str:
        """host:port for a client on this machine; unix:PATH.0,PATH.1 and so on where each front has a socket."""
        if not is_unix(self._server.host):
            return address_of(self._server.host, self._server.port)
        return several_unix(front_host(self._server.host, index) for index in range(self._server.fronts))

    @property
    def http_address(self) -> str:
        """host:port of HTTP, "" where there is none."""
        port = self._server.http_port
        return "" if port is None else address_of(self._server.http_host, port)

    @property
    def admin_address(self) -> str:
        """host:port of admin calls; `address` where they have no port of their own."""
        security = self._server.security
        return (
            self.address
            if security.admin_port is None
            else address_of(security.admin_host, security.admin_port)
        )

    @property
    def metrics_port(self) -> int | None:
        """Port of /metrics, None where there is none."""
        return self._server.observing.metrics_port

    @property
    def encrypts(self) -> bool:
        """Says whether its ports speak TLS."""
        return self._server.security.encrypts

    @property
    def engine_pids(self) -> tuple[int, ...]:
        """Numbers of the processes that drive devices, as they are now."""
        return tuple(slot.pid for slot in self._engines)

    @property
    def front_pids(self) -> tuple[int, ...]:
        """Numbers of the fronts' processes, as they are now."""
        return tuple(slot.pid for slot in self._fronts)

    @property
    def all_answer(self) -> bool:
        """True while each of its processes has started and not ended."""
        return all(slot.child.answers for slot in (*self._engines, *self._fronts))

    def goes_on(self) -> bool:
        """Says whether it still looks after its processes, which look after calls."""
        return self._watch.goes_on

    def stop(self, grace_s: float | None = None) -> None:
        """Stops all fronts as `Server.stop`, then the engines. Returns when the ports are free."""
        fronts, self._fronts = self._fronts, []
        for front in fronts:
            front.ask_to_stop(grace_s)
        grace_s = self._server.grace_s if grace_s is None else grace_s
        within_s = min(self._server.lame_duck_s + grace_s + _MARGIN_S, threading.TIMEOUT_MAX)
        for front in fronts:
            self.counts.add_all(front.stopped(within_s).calls)
        engines, self._engines = self._engines, []
        for engine in engines:
            engine.ask_to_stop(None)
        for engine in engines:
            engine.stopped(_MARGIN_S)
        self._hub.close()
        self._open.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _lock_state(self, opened: ExitStack) -> None:
        """Keeps other servers off the state file."""
        if (path := self._work.server.state_file) is not None:
            opened.callback(os.close, locked(Path(path)))

    def _kill_all(self) -> None:
        for slot in (*self._fronts, *self._engines):
            slot.kill()

    def _reserved(self, opened: ExitStack) -> ServerConfig:
        """Takes the ports that the fronts share, and gives the settings with their numbers."""
        server, security = self._work.server, self._work.server.security

        def number(host: str, port: int | None, settings: str) -> int | None:
            if port is None:
                return None
            reserved = ReservedPort(host, port, settings)
            opened.callback(reserved.close)
            return reserved.number

        own_sockets = is_unix(server.host)  # which cannot be shared
        port = number(server.host, None if own_sockets else server.port, "host or port") or 0
        http = number(server.http_host, server.http_port, "http_host or http_port")
        admin = number(security.admin_host, security.admin_port, "admin_host or admin_port")
        observing = server.observing
        metrics = number(observing.metrics_host, observing.metrics_port, "metrics_host or metrics_port")
        return replace(
            server,
            port=port,
            http_port=http,
            security=replace(security, admin_port=admin),
            observing=replace(observing, metrics_port=metrics),
        )

    def _slot(self, slot: Slot) -> Slot:
        self._slots.append(slot)
        return slot

    def _start_engines(self, folder: Path) -> EngineConfig:
        """Starts a process for each device, and gives the settings of models whose engines are there."""
        config, paths = self._work.engine, []
        store = self._work.store if config.device_tokens_bytes else None
        for gpu in config.device_ids:
            path = str(folder / f"engine-{gpu}")
            own = replace(config, device_ids=(gpu,))
            logging = Logging(self._work.json_log, f"engine {gpu}")
            orders = EngineOrders(
                path=path,
                config=own,
                store=store,
                frozen=self._work.frozen,
                hopeless_pass_s=self._server.observing.hopeless_pass_s,
                switch_interval_s=self._server.switch_interval_s,
                logging=logging,
            )
            self._engines.append(self._slot(Slot(orders)))
            paths.append(path)
        for slot in self._engines:
            slot.wait_until_started()
        return replace(config, engines_at=tuple(paths))

    def _start_fronts(self, folder: Path, engine: EngineConfig) -> None:
        work = self._work
        if self._server.state_file is None:  # what a front that is started again has to know
            self._server = replace(self._server, state_file=str(folder / "state.json"))
        for index in range(work.server.fronts):
            orders = FrontOrders(
                bundles=tuple(work.bundles),
                store=work.store,
                frozen=work.frozen,
                write_back=work.write_back,
                server=replace(
                    self._server, host=front_host(self._server.host, index), fronts=0, is_front=True
                ),
                engine=engine,
                logging=Logging(work.json_log, f"front {index}"),
            )
            self._fronts.append(self._slot(Slot(orders, self._hub.ask)))
        for slot in self._fronts:
            self.models = slot.wait_until_started().models
        self._answering = tuple(self._fronts)


def check_fronts(server: ServerConfig) -> None:
    """Raises `InvalidRequest` for settings that do not go with processes."""
    if server.fronts < 1:
        raise InvalidRequest(
            f"fronts is {server.fronts}: give 1 or more, or serve in one process with `Server`"
        )
    if sys.platform != "linux":
        raise InvalidRequest(
            f"fronts is {server.fronts}: front processes share a port and memory as Linux alone can"
        )
    if is_unix(server.host) and "," in server.host:
        raise InvalidRequest(
            f"fronts is {server.fronts} and host {server.host}: each front has a socket of its own, and clients take "
            "several with commas between them; give a path without one"
        )
    if server.jobs_file is not None:
        raise InvalidRequest(
            f"fronts is {server.fronts} and jobs_file {server.jobs_file}: jobs run in one process; leave --jobs-file "
            "out, or have `rankport encode` do the work"
        )
    with temporary_folder():
        """One can be made."""
