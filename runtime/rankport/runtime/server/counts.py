"""Counts what became of calls, for logs and metrics."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from rankport.protos import errors


class Outcome(StrEnum):
    """Outcome of a call."""

    ANSWERED = "answered"
    REJECTED = "rejected"  # overload, or the server is stopping
    CANCELLED = "cancelled"  # the client gave up
    DEADLINE = "deadline"
    BACKEND = "backend"  # a pass failed
    INVALID = "invalid"  # the caller's fault
    OTHER = "other"


_OUTCOMES: dict[type[BaseException], Outcome] = {
    errors.Overloaded: Outcome.REJECTED,
    errors.QuotaExceeded: Outcome.REJECTED,
    errors.Unavailable: Outcome.REJECTED,
    MemoryError: Outcome.REJECTED,  # told as an overload
    errors.RequestCancelled: Outcome.CANCELLED,
    errors.DeadlineExceeded: Outcome.DEADLINE,
    errors.BackendError: Outcome.BACKEND,
    errors.InvalidRequest: Outcome.INVALID,
    errors.LimitExceeded: Outcome.INVALID,
    errors.NotFound: Outcome.INVALID,
    errors.Unauthenticated: Outcome.INVALID,
    errors.PermissionDenied: Outcome.INVALID,
    errors.PairingError: Outcome.INVALID,
}


def wants_threads(error: BaseException) -> bool:
    """Says whether an error is that of a thread that cannot be started; the interpreter has no class for it."""
    return isinstance(error, RuntimeError) and str(error) == "can't start new thread"


class CallCounts:
    """Calls by outcome since the server's start. Counted on the event loop, read from any thread."""

    def __init__(self) -> None:
        self._counts = Counter(dict.fromkeys(Outcome, 0))

    def add(self, outcome: Outcome) -> None:
        self._counts[outcome] += 1

    def add_error(self, error: BaseException) -> None:
        told_as_overload = wants_threads(error)
        self.add(Outcome.REJECTED if told_as_overload else _OUTCOMES.get(type(error), Outcome.OTHER))

    def add_all(self, counts: Mapping[str, int]) -> None:
        """Adds what a `snapshot` has."""
        for outcome, number in counts.items():
            self._counts[Outcome(outcome)] += number

    def snapshot(self) -> Mapping[Outcome, int]:
        """Returns a copy, with every outcome in it."""
        return dict(self._counts)
