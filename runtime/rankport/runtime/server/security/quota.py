"""`Quota`: what a client has left of its items a second and its concurrent requests."""

import time
from collections.abc import Callable

from rankport.protos.errors import QuotaExceeded
from rankport.runtime.server.security.tokens import Limits

_CONCURRENT_RETRY_S = 0.1


class Quota:
    """Quota of one client. Lives on the server's event loop.

    Items may be a second's worth ahead. A request may be larger than that: it is taken when there is something left,
    and the client then waits until its debt is paid, so that over time it has what it may have and no size is refused.
    """

    def __init__(self, name: str, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._limits, self._clock = name, limits, clock
        self._items_left = limits.items_per_s or 0.0
        self._seen_s = clock()
        self._pending = 0

    def set_limits(self, limits: Limits) -> None:
        """Takes other limits, without forgetting what is used."""
        if limits != self._limits:
            self._earn()
            self._limits = limits
            self._items_left = min(self._items_left, limits.items_per_s or 0.0)

    def check(self) -> None:
        """Raises `QuotaExceeded`, with the time when to come back, where nothing is left."""
        limits = self._limits
        if limits.concurrent is not None and self._pending >= limits.concurrent:
            raise _exceeded(
                f"client {self._name} has {self._pending} requests pending, its quota is {limits.concurrent}; retry "
                "when one is answered",
                _CONCURRENT_RETRY_S,
            )
        self._earn()
        if limits.items_per_s is not None and self._items_left <= 0:
            wait_s = (1 - self._items_left) / limits.items_per_s
            raise _exceeded(
                f"client {self._name} had more than its quota of {limits.items_per_s:g} items a second; retry in "
                f"{wait_s:.2f} s",
                wait_s,
            )

    def enter(self) -> None:
        """Notes that a request of it is worked on; `leave` follows."""
        self._pending += 1

    def leave(self) -> None:
        """Notes that one is done."""
        self._pending -= 1

    def charge(self, items: int) -> None:
        """Takes items."""
        self._items_left -= items

    def _earn(self) -> None:
        now_s, rate = self._clock(), self._limits.items_per_s or 0.0
        self._items_left = min(self._items_left + rate * (now_s - self._seen_s), rate)
        self._seen_s = now_s


def _exceeded(message: str, retry_after_s: float) -> QuotaExceeded:
    error = QuotaExceeded(message)
    error.retry_after_s = retry_after_s
    return error
