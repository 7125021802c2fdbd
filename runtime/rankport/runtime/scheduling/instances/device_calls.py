"""Calls of the thread that drives a device, between two passes and beside requests: a write to its memory, say."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from rankport.protos.errors import RankportError, Unavailable
from rankport.runtime.scheduling.futures import settle
from rankport.runtime.scheduling.work import why_it_stopped

Step = Callable[[], None]


class DeviceCalls:
    """Steps that wait, each with its future. Any thread may add; one runs them."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Future[None], Step]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, step: Step) -> "Future[None]":
        """Returns a future that is done when the step is; it raises what the step raises, or `Unavailable`."""
        future: Future[None] = Future()
        self._waiting.append((future, step))
        return future

    def run(self) -> None:
        """Runs those that wait now, others after the next pass. Raises a bug or `DeviceLost`; the rest then waits."""
        for _ in range(len(self)):
            future, step = self._waiting.popleft()
            try:
                step()
            except RankportError as error:
                settle(future, future.set_exception, error)
            except BaseException as error:
                settle(future, future.set_exception, Unavailable(why_it_stopped(error)))
                raise
            else:
                settle(future, future.set_result, None)

    def take(self) -> "list[Future[None]]":
        """Takes the futures of those that will never run."""
        futures = [future for future, _ in self._waiting]
        self._waiting.clear()
        return futures
