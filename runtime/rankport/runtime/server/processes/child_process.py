"""`Child`: a process of a supervisor, with what it is told and says."""

import os
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from rankport.protos.errors import Unavailable
from rankport.runtime.server.processes.control import (
    EngineOrders,
    FrontOrders,
    NotStarted,
    Started,
    Stop,
    Stopped,
)

_MAIN = "import sys; from rankport.runtime.server.processes.child import main; main()"


class Child:
    """A process, from its start to its end."""

    def __init__(self, orders: EngineOrders | FrontOrders) -> None:
        """Starts it; `started` waits until it answers."""
        self.name = orders.logging.name
        ours, theirs = socket.socketpair()
        command = [sys.executable, *_flags(), "-c", _MAIN, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=_environment()
            )
        self._control: Connection[Any, Any] = Connection(ours.detach())
        self._lock = threading.Lock()
        self._control.send(orders)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def started(self) -> Started:
        """Waits until it answers. Raises what kept it from that."""
        said = self._said()
        if isinstance(said, NotStarted):
            raise said.error
        assert isinstance(said, Started)
        return said

    def wait(self) -> int:
        """Waits for its end, and returns its exit code."""
        return self._process.wait()

    def ask_to_stop(self, grace_s: float | None) -> None:
        """Has it end in good order; waits for nothing."""
        with self._lock:
            try:
                self._control.send(Stop(grace_s))
            except OSError:
                return  # it has ended already

    def stopped(self) -> Stopped:
        """Waits until it has stopped."""
        try:
            said = self._control.recv()
        except (EOFError, OSError):
            return Stopped({})
        return said if isinstance(said, Stopped) else Stopped({})

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()

    def _said(self) -> Any:
        try:
            return self._control.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            raise Unavailable(f"{self.name} ended with code {code} as it started; its log says why") from None


def _flags() -> list[str]:
    return [f"-W{option}" for option in sys.warnoptions]


def _environment() -> dict[str, str]:
    """Gives the environment, in which modules are found where they are found here."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
