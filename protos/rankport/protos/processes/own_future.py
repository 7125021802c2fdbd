"""`OwnFuture`: a future that a child process does not wait for in vain."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from rankport.protos.processes.own_process import OwnProcess, StaysInProcess

T = TypeVar("T")


class OwnFuture(StaysInProcess, Future[T]):
    """Future whose result comes from a thread of the process that it is made in.

    In a child that `fork()` made it raises `Unavailable` where it would wait, unless its result was there before. A
    child's `cancel()` does nothing. (`concurrent.futures.wait` asks no future, and waits for its own timeout.)
    """

    def __init__(self) -> None:
        super().__init__()
        self._process = OwnProcess()
        self._answered = False
        self._steps: list[Callable[[Any], Any]] | None = []  # on the way to its result; None: it has one
        self._steps_lock = threading.Lock()

    def result(self, timeout: float | None = None) -> T:
        """Waits for the result as any future. Raises `Unavailable` in a forked child."""
        self._check()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Waits for the error as any future. Raises `Unavailable` in a forked child."""
        self._check()
        return super().exception(timeout)

    def add_done_callback(self, fn: Callable[[Future[T]], Any]) -> None:
        """Has a function called as any future. Raises `Unavailable` in a forked child, where nobody would."""
        self._check()
        super().add_done_callback(fn)

    def cancel(self) -> bool:
        """Cancels the work, if this is the process that has it."""
        return not self._process.forked and super().cancel()

    def becomes(self, step: Callable[[Any], Any]) -> bool:
        """Has its result, once it is there, taken through a further step; False if it is there already.

        For whoever was given the future and hands it on as that of what the step returns: one future, with its lock
        and its wake-ups, in place of two. An error that a step raises is the future's.
        """
        with self._steps_lock:
            if self._steps is None:
                return False
            self._steps.append(step)
            return True

    def set_result(self, result: T) -> None:
        """Resolves it, with what its steps make of the result."""
        with self._steps_lock:
            steps, self._steps = self._steps, None
        try:
            for step in steps or ():
                result = step(result)
        except BaseException as error:  # whoever waits must hear of it
            self.set_exception(error)
            return
        super().set_result(result)
        self._answered = True

    def set_exception(self, exception: BaseException | None) -> None:
        """Resolves it with an error."""
        super().set_exception(exception)
        self._answered = True

    def _check(self) -> None:
        if not self._answered:
            self._process.check("the request was submitted", "submit it")
