"""`Quota`: what a client has left of its items and tokens a second, and its concurrent requests."""

import time
from collections.abc import Callable

from rankport.protos.errors import QuotaExceeded
from rankport.protos.wording import counted
from rankport.runtime.server.security.tokens import Limits

_CONCURRENT_RETRY_S = 0.1


class _Share:
    """Remainder of a rate: a second's worth may be ahead, and what is owed is earned first. Without one nothing is."""

    def __init__(self, what: str, rate: float | None) -> None:
        self._what, self._rate = what, rate
        self._left = rate or 0.0

    def set_rate(self, rate: float | None) -> None:
        """Takes another rate, without forgetting what is used of one before."""
        most = rate or 0.0
        self._left = most if self._rate is None else min(self._left, most)
        self._rate = rate

    def earn(self, seconds: float) -> None:
        """Adds what came in so many seconds."""
        rate = self._rate or 0.0
        self._left = min(self._left + rate * seconds, rate)

    def take(self, number: int) -> None:
        """Takes so many."""
        if self._rate is not None:
            self._left -= number

    def check(self, name: str) -> None:
        """Raises `QuotaExceeded` where nothing is left to a client."""
        if self._rate is not None and self._left <= 0:
            wait_s = (1 - self._left) / self._rate
            raise _exceeded(
                f"client {name} had more than its quota of {self._rate:g} {self._what} a second; retry in "
                f"{wait_s:.2f} s",
                wait_s,
            )


class Quota:
    """Quota of one client. Lives on the server's event loop.

    Items, and tokens, may be a second's worth ahead. A request may be larger than that: it is taken when there is
    something left, and the client then waits until its debt is paid, so that over time it has what it may have and no
    size is refused. Tokens of texts are known once they are read, and charged when the request is done with.
    """

    def __init__(self, name: str, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._limits, self._clock = name, limits, clock
        self._items = _Share("items", limits.items_per_s)
        self._tokens = _Share("tokens", limits.tokens_per_s)
        self._seen_s = clock()
        self._pending = 0

    def set_limits(self, limits: Limits) -> None:
        """Takes other limits, without forgetting what is used."""
        if limits != self._limits:
            self._earn()
            self._limits = limits
            self._items.set_rate(limits.items_per_s)
            self._tokens.set_rate(limits.tokens_per_s)

    def check(self) -> None:
        """Raises `QuotaExceeded`, with the time when to come back, where nothing is left."""
        limits = self._limits
        if limits.concurrent is not None and self._pending >= limits.concurrent:
            raise _exceeded(
                f"client {self._name} has {counted(self._pending, 'request')} pending, its quota is "
                f"{limits.concurrent}; retry "
                "when one is answered",
                _CONCURRENT_RETRY_S,
            )
        self._earn()
        self._items.check(self._name)
        self._tokens.check(self._name)

    def enter(self) -> None:
        """Notes that a request of it is worked on; `leave` follows."""
        self._pending += 1

    def leave(self) -> None:
        """Notes that one is done."""
        self._pending -= 1

    def charge(self, items: int) -> None:
        """Takes items. A shape that claims fewer than none, and is refused once it is read, gives nothing back."""
        self._items.take(max(items, 0))

    def charge_tokens(self, tokens: int) -> None:
        """Takes tokens that engines were given."""
        self._tokens.take(tokens)

    def _earn(self) -> None:
        now_s = self._clock()
        self._items.earn(now_s - self._seen_s)
        self._tokens.earn(now_s - self._seen_s)
        self._seen_s = now_s


def _exceeded(message: str, retry_after_s: float) -> QuotaExceeded:
    error = QuotaExceeded(message)
    error.retry_after_s = retry_after_s
    return error
