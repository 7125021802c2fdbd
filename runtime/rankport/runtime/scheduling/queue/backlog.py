"""`Backlog`: what an engine has accepted and not answered, and how long that will take by how long it took of late.

Owns the estimate by which a request is refused at once that could only run out of time: its caller may ask another
server, and nobody's turn is spent on it. Cautious: it says nothing without experience, and nothing of an engine that
has no other request.
"""

from collections.abc import Sequence

from rankport.protos.errors import Overloaded
from rankport.protos.priorities import Priority
from rankport.runtime.config import EngineConfig

_LEAST_BUSY_S = 0.5  # of experience before anything is estimated
_MARGIN = 1.15  # of the estimate, which is off by about as much
_MEMORY_S = 10.0  # of busy time, after which half of the experience counts


class Backlog:
    """Tokens of unanswered requests, and the pace of answers. Not thread-safe: its owner's lock guards it."""

    def __init__(self, config: EngineConfig) -> None:
        """Requests over `max_bulk_tokens` count as large, which leave the rest of a pass to small ones."""
        self._bulk_tokens = config.bulk_tokens
        self._small_share = max(1 - self._bulk_tokens / config.max_batch_tokens, 0.5)
        self._background_share = config.background_share
        self._max_wait_s = config.max_queue_s
        self._instances = config.instances  # share what is ahead; a request's own passes follow each other
        self._small = self._large = self._background = 0  # tokens
        self._busy_s = self._tokens = (
            0.0  # of experience: tokens of answered requests, and the time that an instance was at work
        )
        self._counted_s = 0.0  # of that time

    def wait_s(self, tokens: int, priority: Priority = "interactive") -> float | None:
        """Estimates when a further request of so many tokens would be answered; None without experience or others."""
        share = 1.0
        if priority == "background":
            ahead = self._background + self._small + self._large
        else:
            ahead = self._small + self._large
            share -= self._background_share if self._background else 0.0
        if not ahead or self._busy_s < _LEAST_BUSY_S or not self._tokens:
            return None
        if priority == "interactive" and tokens <= self._bulk_tokens and self._large:
            ahead, share = self._small, share * self._small_share
        return (ahead / self._instances + tokens) / (self._tokens / self._busy_s * share)

    def check(self, tokens: int, left_s: float | None, priority: Priority = "interactive") -> None:
        """Raises `Overloaded` for a request that would not be answered in `left_s`, or would wait too long at all."""
        most_s = self._max_wait_s
        if left_s is None and most_s is None:
            return
        wait_s = self.wait_s(tokens, priority)
        if wait_s is None:
            return
        if left_s is not None and _MARGIN * wait_s > left_s:
            raise _refusal(
                f"requests before this one take about {wait_s:.1f} s, and {max(left_s, 0.0):.1f} s are left of its "
                "timeout: retry later, ask another server, or allow more time",
                "deadline",
                _MARGIN * wait_s - left_s,
            )
        if most_s is not None and wait_s > most_s:
            raise _refusal(
                f"requests before this one take about {wait_s:.1f} s, the limit is {most_s:g} s (max_queue_s): retry "
                "later, or ask another server",
                "wait",
                wait_s - most_s,
            )

    def enter(self, tokens: int, priority: Priority = "interactive") -> None:
        """Takes in a request."""
        self._add(tokens, priority, 1)

    def leave(
        self, tokens: int, priority: Priority = "interactive", *, answered: bool, busy_s: float
    ) -> None:
        """Notes that a request is done with, when instances have been at work for `busy_s` in all."""
        self._add(tokens, priority, -1)
        if answered:
            self._tokens += tokens
        self._busy_s += busy_s - self._counted_s
        self._counted_s = busy_s
        if self._busy_s > _MEMORY_S:
            self._busy_s, self._tokens = self._busy_s / 2, self._tokens / 2

    def numbers(self) -> tuple[float, ...]:
        """Gives the numbers that the estimates are made of."""
        return self._small, self._large, self._background, self._busy_s, self._tokens

    def take(self, numbers: Sequence[float]) -> None:
        """Takes over what another one gave."""
        self._small, self._large, self._background = map(int, numbers[:3])
        self._busy_s, self._tokens = numbers[3:5]

    def _add(self, tokens: int, priority: Priority, sign: int) -> None:
        if priority == "background":
            self._background += sign * tokens
        elif tokens > self._bulk_tokens:
            self._large += sign * tokens
        else:
            self._small += sign * tokens


def _refusal(message: str, reason: str, retry_after_s: float) -> Overloaded:
    error = Overloaded(message)
    error.reason, error.retry_after_s = reason, retry_after_s
    return error
