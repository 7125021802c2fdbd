"""Part that engines of all kinds share: whether their worker lives, and its end. Knows no request."""

from typing import Any

from rankport.runtime.scheduling.counts import EngineCounts
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

    def stop(self, grace_s: float = 0.0) -> None:
        """Begins to close, and waits for nothing."""
        self._worker.stop(grace_s)

    def close(self, grace_s: float = 0.0) -> None:
        """Lets accepted requests finish for `grace_s` seconds, fails the rest, frees the device."""
        self._worker.close(grace_s)
