"""`Slot`: a child that is started again whenever it ends, until it is to end."""

import logging
import threading
import time

from rankport.protos.errors import RankportError
from rankport.runtime.server.processes.child_process import Ask, ChildProcess
from rankport.runtime.server.processes.control import EngineOrders, FrontOrders, Started, Stopped

_log = logging.getLogger(__name__)
_WAITS_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # before one more start, of a child that ends soon again and again
_STEADY_S = 30.0  # after which it is none of these


def no_orders(child: ChildProcess, asked: object) -> None:
    """Takes the orders that an engine passes on: it has none."""


class Slot:
    """Place of one child, with what it is ordered to do."""

    def __init__(self, orders: EngineOrders | FrontOrders, ask: Ask = no_orders) -> None:
        """Starts it; `wait_until_started` follows."""
        self._orders, self._ask = orders, ask
        self.restarts = dict.fromkeys(("ended", "hung"), 0)  # by why, since the start of the server
        self._child = ChildProcess(orders, ask)
        self._ending = threading.Event()
        self._lock = threading.Lock()  # guards `_child` against an end while it is replaced
        self._keeper = threading.Thread(target=self._keep, name=f"rankport-{self.name}", daemon=True)

    @property
    def name(self) -> str:
        """Name of it in logs."""
        return self._child.name

    @property
    def pid(self) -> int:
        """Number of its process as it is now."""
        return self._child.pid

    @property
    def child(self) -> ChildProcess:
        """The process as it is now; it may have ended."""
        return self._child

    def wait_until_started(self) -> Started:
        """Returns once it answers; it is started again from then on. Raises what keeps it from that."""
        started = self._child.started()
        self._keeper.start()
        return started

    def ask_to_stop(self, grace_s: float | None) -> None:
        """Has it end in good order, for good, at once where it answers nobody yet; waits for nothing."""
        self._ending.set()
        with self._lock:
            if self._child.has_started:
                self._child.ask_to_stop(grace_s)
            else:
                self._child.end()

    def stopped(self, timeout_s: float) -> Stopped:
        """Waits until it has ended, and ends it where it has not stopped in time, or not ended in as much again."""
        said = Stopped({})
        try:
            said = self._child.stopped(timeout_s)
            self._child.wait(timeout_s)
        except TimeoutError:
            _log.error("%s (process %d) did not stop in %.0f s and is killed", self.name, self.pid, timeout_s)
            self._child.kill()
        return said

    def kill(self) -> None:
        """Ends it at once, for good."""
        self._ending.set()
        with self._lock:
            self._child.kill()

    def _keep(self) -> None:
        failures, began_s = 0, time.monotonic()
        while True:
            code = self._child.wait()
            if self._ending.is_set():
                return
            if time.monotonic() - began_s > _STEADY_S:
                failures = 0
            self.restarts["hung" if self._child.hung else "ended"] += 1
            _log.error("%s (process %d) ended with code %d and is started again", self.name, self.pid, code)
            begun = False
            while not begun:
                if self._ending.wait(_WAITS_S[min(failures, len(_WAITS_S) - 1)]):
                    return
                failures, began_s = failures + 1, time.monotonic()
                begun = self._begin()
            self._tell_start()

    def _begin(self) -> bool:
        """Starts a process, unless this is to end. Returns False where the system has no room for one now."""
        try:
            with self._lock:
                if not self._ending.is_set():
                    self._child = ChildProcess(self._orders, self._ask)
        except (OSError, RuntimeError, MemoryError) as error:  # of processes, files, threads, memory
            _log.error("%s cannot be started now, and is tried again: %s", self.name, error)
            return False
        return True

    def _tell_start(self) -> None:
        try:
            self._child.started()
            _log.warning("%s is process %d now", self.name, self.pid)
        except RankportError as error:
            _log.error("%s did not start: %s", self.name, error)
