"""Threads for large bodies and answers: the event loop answers others between the steps of one."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
ITEM_BYTES = 64
"""Size of an item, where the bytes of all are not known."""
_LARGE_BYTES = 2**18  # which take some milliseconds
_LONGEST_PAUSE_S = 1.0


async def apart(nbytes: int, work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """Returns what `work` makes of so many bytes: at once of a few, by a thread of many."""
    if nbytes < _LARGE_BYTES:
        return work(*given, **named)

    def paused() -> T:
        with _PAUSE:
            return work(*given, **named)

    return await asyncio.to_thread(paused)


class Pause:
    """Context without Python's collector, which would look for cycles in values that have none for most of the time.

    Where one follows another without end the collector runs all the same: others make cycles meanwhile.
    """

    def __init__(self, longest_s: float = _LONGEST_PAUSE_S) -> None:
        self._longest_s = longest_s
        self._lock = threading.Lock()
        self._inside = 0
        self._began_s = 0.0
        self._paused = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside and gc.isenabled():
                gc.disable()
                self._began_s, self._paused = time.monotonic(), True
            elif time.monotonic() - self._began_s > self._longest_s:
                self._end()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._end()

    def _end(self) -> None:
        if self._paused:
            self._paused = False
            gc.enable()


_PAUSE = Pause()  # one for the process, as the collector is
