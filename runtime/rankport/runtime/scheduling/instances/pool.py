"""`Instances`: threads in which a processor computes several passes beside each other. Knows no pass."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from rankport.protos.errors import Unavailable

ReturnT = TypeVar("ReturnT")
_BEHIND_EACH_OTHER = 2  # passes of a device: the one that it is at work on, and the next


class Instances:
    """Threads of passes, one for each that may be computed at once; one alone is the thread that drives the device."""

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, "rankport-instance") if count > 1 else None
        self._calls: set[Future[Any]] = set()  # submitted; those that are done leave when the next one comes

    @property
    def side_by_side(self) -> bool:
        """Says whether passes run beside each other, and end in whatever order they end."""
        return self._pool is not None

    @property
    def most_under_way(self) -> int:
        """Passes that may be under way at once."""
        return self.count if self.side_by_side else _BEHIND_EACH_OTHER

    @property
    def free(self) -> int:
        """Instances that have nothing to do."""
        return self.count - sum(not call.done() for call in self._calls)

    def submit(self, call: Callable[[], ReturnT]) -> "Future[ReturnT]":
        """Has a thread of several make a call. Raises `Unavailable` when the process ends."""
        assert self._pool is not None, "one instance: the caller's thread makes its calls"
        try:
            future = self._pool.submit(call)
        except RuntimeError as error:
            raise Unavailable("the process ends") from error
        self._calls = {future, *(other for other in self._calls if not other.done())}
        return future

    def close(self) -> None:
        """Waits for the calls that were submitted, and ends the threads."""
        if self._pool is not None:
            self._pool.shutdown()
