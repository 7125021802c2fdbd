"""`Meter`: tokens that a piece of work has engines read, counted where they are queued. Knows no client."""

from contextvars import ContextVar, Token
from typing import Self


class Meter:
    """Count of the tokens that are queued while it is entered, also in threads that its context was handed to."""

    __slots__ = ("_token", "tokens")

    def __init__(self) -> None:
        self.tokens = 0
        self._token: Token[Meter | None] | None = None

    def __enter__(self) -> Self:
        self._token = _METER.set(self)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        assert self._token is not None, "entered"
        _METER.reset(self._token)


_METER: ContextVar[Meter | None] = ContextVar("rankport_meter", default=None)


def queued(tokens: int) -> None:
    """Counts tokens that were taken into a queue, if somebody wants to know."""
    if (meter := _METER.get()) is not None:
        meter.tokens += tokens


def own_meter() -> Meter | None:
    """Gives the meter that counts now, for tokens that are queued later."""
    return _METER.get()
