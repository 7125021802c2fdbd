"""Threads for large bodies and answers: the event loop answers others between the steps of one."""

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
ITEM_BYTES = 64
"""Size of an item, where the bytes of all are not known."""
_LARGE_BYTES = 2**18  # which take some milliseconds


async def apart(nbytes: int, work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """Returns what `work` makes of so many bytes: at once of a few, by a thread of many."""
    if nbytes < _LARGE_BYTES:
        return work(*given, **named)

    def paused() -> T:
        with _PAUSE:
            return work(*given, **named)

    return await asyncio.to_thread(paused)


class _Pause:
    """Context without Python's collector, which would look for cycles in values that have none for most of the time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._was_on = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._was_on = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._was_on:
                gc.enable()


_PAUSE = _Pause()  # one for the process, as the collector is
