"""`ChildProcess`: a process of a supervisor, with what it is told and says."""

import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from rankport.protos.errors import RankportError, Unavailable
from rankport.runtime.server.lifecycle.orders import AdminOrder
from rankport.runtime.server.processes.channel import Channel
from rankport.runtime.server.processes.control import (
    Asked,
    AskPages,
    Changed,
    EngineOrders,
    FrontOrders,
    GivePage,
    NotStarted,
    Page,
    Pages,
    Started,
    Stop,
    Stopped,
    Take,
    Told,
    Took,
)
from rankport.runtime.server.processes.pulse import Pulse

_log = logging.getLogger(__name__)
_MAIN = "from rankport.runtime.server.processes.child import main; main()"
Ask = Callable[["ChildProcess", Asked | AskPages], None]
"""Has done what somebody asked of a child that all fronts do; `tell` follows. Does not wait."""


class ChildProcess:
    """A process, from its start to its end."""

    def __init__(self, orders: EngineOrders | FrontOrders, ask: Ask) -> None:
        """Starts it; `started` waits until it answers."""
        self.name = orders.logging.name
        self.is_front = isinstance(orders, FrontOrders)
        self.hung = False  # and is ended for it
        self._ask = ask
        pulse = Pulse.memory()
        try:
            self.pulse = Pulse(pulse, of_child=False)
            ours, theirs = socket.socketpair()
            self._channel = Channel(ours.detach())
            with theirs:
                fds = [theirs.fileno(), pulse]
                name = self.name  # for `ps`
                command = [sys.executable, *_flags(), "-c", _MAIN, *map(str, fds), name]
                self._process = subprocess.Popen(
                    command, pass_fds=fds, stdin=subprocess.DEVNULL, env=_environment()
                )
        finally:
            os.close(pulse)
        self._started: Future[Started] = Future()
        self._stopped: Future[Stopped] = Future()
        self._numbers = itertools.count()
        self._taking: dict[int, Future[Changed]] = {}
        self._paging: dict[int, Future[bytes]] = {}
        self._channel.send(orders)
        self._listener = threading.Thread(target=self._listen, name=f"rankport-{self.name}", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Number of it."""
        return self._process.pid

    def started(self) -> Started:
        """Waits until it answers. Raises what kept it from that."""
        return self._started.result()

    def wait(self, timeout_s: float | None = None) -> int:
        """Waits for its end, and returns its exit code. Raises `TimeoutError` if it has not ended in time."""
        self._listener.join(timeout_s)
        if self._listener.is_alive():
            raise TimeoutError
        return self._process.wait()

    def take(self, order: AdminOrder) -> "Future[Changed]":
        """Has it take an order by itself; `Unavailable` is what became of it if it ends meanwhile."""
        number, future = next(self._numbers), Future[Changed]()
        self._taking[number] = future
        self._channel.send(Take(number, order))
        if self._stopped.done():
            self._give_up(future)
        return future

    def page(self) -> "Future[bytes]":
        """Asks for its metrics; nothing comes if it ends meanwhile."""
        number, future = next(self._numbers), Future[bytes]()
        self._paging[number] = future
        self._channel.send(GivePage(number))
        return future

    def tell(self, said: Told | Pages) -> None:
        """Tells it what came of what it asked."""
        self._channel.send(said)

    def ask_to_stop(self, grace_s: float | None) -> None:
        """Has it end in good order; waits for nothing."""
        self._channel.send(Stop(grace_s))

    def stopped(self, timeout_s: float) -> Stopped:
        """Waits until it has stopped. Raises `TimeoutError` if it has not in time."""
        return self._stopped.result(timeout_s)

    @property
    def has_started(self) -> bool:
        """True once it answers, or never will."""
        return self._started.done()

    @property
    def ended(self) -> bool:
        """True once it is no process any more."""
        return self._process.returncode is not None

    @property
    def answers(self) -> bool:
        """True from its start to its end."""
        return self.has_started and self._started.exception() is None and not self._stopped.done()

    def signal(self, number: int) -> None:
        """Sends it a signal; nobody gets it once it has ended."""
        self._process.send_signal(number)

    def end(self) -> None:
        """Has it end at once; waits for nothing."""
        self._process.kill()

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self.wait()

    def _listen(self) -> None:
        for said in self._channel.heard():
            try:
                self._hear(said)
            except Exception:  # want of threads or memory, say; what it says next is to be heard
                _log.exception("%s said what could not be taken", self.name)
        self._process.wait()
        self._channel.close()
        if not self._started.done():
            self._started.set_exception(self._gone())
        if not self._stopped.done():
            self._stopped.set_result(Stopped({}))
        for future in list(self._taking.values()):
            self._give_up(future)

    def _hear(self, said: Any) -> None:
        match said:
            case Started():
                self._started.set_result(said)
            case NotStarted(error):
                self._started.set_exception(error)
            case Asked() | AskPages():
                self._ask(self, said)
            case Page(number, page):
                if (future := self._paging.pop(number, None)) is not None:
                    future.set_result(page)
            case Took(number, changed):
                self._taking.pop(number).set_result(changed)
            case Stopped():
                self._stopped.set_result(said)

    def _give_up(self, future: "Future[Changed]") -> None:
        """Answers an order that its child never will, unless somebody did."""
        with suppress(InvalidStateError):
            future.set_result(self._gone())

    def _gone(self) -> RankportError:
        return Unavailable(f"{self.name} ended with code {self._process.poll()}; its log says why")


def _flags() -> list[str]:
    return [f"-W{option}" for option in sys.warnoptions]


def _environment() -> dict[str, str]:
    """Gives the environment, in which modules are found where they are found here."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
