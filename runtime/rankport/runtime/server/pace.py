"""Pace of a server: how soon the work that waits will be done, by that of the work done last."""

import time
from collections.abc import Callable

_WEIGHT = 0.05  # of the last end among all before
_LEAST_S, _MOST_S = 0.05, 5.0


class Pace:
    """Mean seconds from one end of work to the next. An idle time counts no longer than the longest estimate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_s: float | None = None
        self._interval_s = 0.0

    def ended(self) -> None:
        """Notes that some work is done."""
        now_s = self._clock()
        if self._last_s is not None:
            self._interval_s += _WEIGHT * (min(now_s - self._last_s, _MOST_S) - self._interval_s)
        self._last_s = now_s

    def seconds_for(self, requests: float) -> float:
        """Estimates how long so many take, from 0.05 to 5 seconds."""
        return min(max(requests * self._interval_s, _LEAST_S), _MOST_S)
