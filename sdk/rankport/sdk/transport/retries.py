"""Retries of both clients: whether a call that no server could take is made again, and when.

Knows no channel; waits for nothing. gRPC's own are not used: a call whose deadline meets the wait for one may not end.
"""

import random
import threading
import time

from rankport.protos.errors import Overloaded, Unavailable

Refusal = Overloaded | Unavailable
REFUSALS = (Overloaded, Unavailable)
"""Errors after which a call may be made again."""

_MOST = 3  # of one call
_FIRST_WAIT_S = 0.1  # without a hint of the server; three times as long from one to the next
_JITTER = 0.2  # so that those who were refused together do not come back together
_SHARE = 0.1  # of calls, over time
_AT_ONCE: dict[type[Refusal], float] = {Overloaded: 10.0, Unavailable: 20.0}  # in a row


class RetryBudget:
    """Retries that the calls of a client may make: one for ten calls, and some in a row. Any thread may ask."""

    def __init__(self, *, enabled: bool = True) -> None:
        """Allows none where it is not `enabled`."""
        self.enabled = enabled
        self._left = dict(_AT_ONCE)
        self._lock = threading.Lock()

    def tries(self, timeout_s: float | None) -> "Tries":
        """Begins a call that may take `timeout_s` seconds together with its retries."""
        self.earn()
        return Tries(self, timeout_s)

    def earn(self) -> None:
        """Adds the share of a retry that a call gives."""
        with self._lock:
            self._left = {kind: min(left + _SHARE, _AT_ONCE[kind]) for kind, left in self._left.items()}

    def take(self, error: Refusal) -> bool:
        """Takes a retry after such an error, if one is left."""
        kind: type[Refusal] = Overloaded if isinstance(error, Overloaded) else Unavailable
        with self._lock:
            if not self.enabled or self._left[kind] < 1:
                return False
            self._left[kind] -= 1
            return True


class Tries:
    """Attempts of one call."""

    def __init__(self, budget: RetryBudget, timeout_s: float | None) -> None:
        self._budget = budget
        self._until_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._made = 0

    def left_s(self) -> float | None:
        """Seconds left for the call, 0 or more; None without a limit."""
        return None if self._until_s is None else max(self._until_s - time.monotonic(), 0.0)

    def went_on(self) -> None:
        """Takes that a part of the call was answered: what fails from here on is as of a new one."""
        self._made = 0
        self._budget.earn()

    def wait_s(self, error: Refusal) -> float:
        """Says how long to wait before the next attempt. Raises `error` if there is to be none.

        The server's hint, if it gave one, is the least; nothing waits past the call's timeout.
        """
        hint_s, left_s = error.retry_after_s, self.left_s()
        wait_s = _FIRST_WAIT_S * 3**self._made if hint_s is None else hint_s
        wait_s *= 1 + _JITTER * random.random()
        never = hint_s is not None and hint_s < 0  # as gRPC has it
        if (
            never
            or self._made == _MOST
            or (left_s is not None and wait_s >= left_s)
            or not self._budget.take(error)
        ):
            raise error
        self._made += 1
        return wait_s
