"""Part that engines of all kinds share: whether their worker lives, and its end. Knows no request."""

from collections.abc import Callable
from typing import Any

from rankport.protos.priorities import Priority
from rankport.runtime.scheduling.counts import EngineCounts
from rankport.runtime.scheduling.queue.queue_limit import Watcher
from rankport.runtime.scheduling.worker import Worker


class QueuedEngine:
    """An engine whose requests wait for the thread that drives its device."""

    def __init__(self, worker: Worker[Any]) -> None:
        self._worker = worker

    @property
    def alive(self) -> bool:
        """False once it is closed, its device lost, or stopped on a bug: it answers nothing any more."""
        return self._worker.alive

    def counts(self) -> EngineCounts:
        """Returns a snapshot of its counters."""
        return self._worker.counts()

    def check_room(self, timeout_s: float | None, priority: Priority) -> None:
        """Raises `Overloaded` where its queue would refuse any request like those of late; any thread may ask."""
        if self.alive:
            self._worker.queue_limit.check_unread(timeout_s, priority)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Has the numbers of its queue told now and whenever they change; see `QueueLimit.watch`."""
        return self._worker.watch(watcher)

    def stop(self, grace_s: float = 0.0) -> None:
        """Begins to close, and waits for nothing."""
        self._worker.stop(grace_s)

    def close(self, grace_s: float = 0.0) -> None:
        """Lets accepted requests finish for `grace_s` seconds, fails the rest, frees the device."""
        self._worker.close(grace_s)
