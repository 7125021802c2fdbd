"""What a worker is given to compute, and the requests it computes it for.

The seam between the thread with its queue, in `worker`, and what it computes, in the `engine` of each kind.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from rankport.protos.errors import BackendError, RankportError
from rankport.runtime.backends.contract import DeviceLost

ReturnT = TypeVar("ReturnT")


@dataclass(slots=True, eq=False, kw_only=True)
class Request(ABC):
    """A request as the worker sees it; `Work` subclasses it with what is to be computed."""

    tokens: int  # weight in the queue
    submitted_s: float  # by the worker's clock
    timeout_s: float | None  # as the caller gave it
    spent_s: float = 0.0  # of it, before submission
    # Stays pending until the answer is set, so that a cancel succeeds at any time before.
    future: "Future[Any]" = field(default_factory=Future)
    started: bool = False  # takes or took part in a pass
    compute_s: float = 0.0  # of the passes it took part in

    @property
    @abstractmethod
    def exhausted(self) -> bool:
        """Whether all its passes have begun."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether the answer is complete."""

    @abstractmethod
    def answer(self, waited_s: float) -> Any:
        """The result of the future, given the seconds since submission spent outside the request's passes.

        A `RankportError` raised here fails this request alone.
        """

    def expired(self, now_s: float) -> bool:
        return self.timeout_s is not None and self.spent_s + now_s - self.submitted_s >= self.timeout_s


RequestT = TypeVar("RequestT", bound=Request)


@dataclass(frozen=True, slots=True)
class Pass(Generic[RequestT]):
    """One call of the device.

    `begin` changes requests only when it succeeds. What it returns, if the device is still at work, waits for the
    results and records them; passes are landed in the order in which they began. One that fails on its way fails all
    of its requests, one that does not begin is tried again for each alone.
    """

    requests: tuple[RequestT, ...]  # that take part, at least one
    begin: Callable[[], Callable[[], None] | None]


class Work(Protocol[RequestT]):
    """What a worker computes; called by its thread only.

    A `RankportError` raised here fails the requests at hand. Any other exception is a bug, which ends it.
    """

    def prepare(self, request: RequestT) -> None:
        """Called before every pass for every active request."""

    def plan(self, active: Sequence[RequestT]) -> Pass[RequestT]:
        """The next pass over some unfinished, prepared requests, those served least recently first."""

    def retire(self, request: RequestT) -> None:
        """Frees what `prepare` took, if anything; harmless when repeated."""

    def close(self) -> None:
        """Frees the device; called last."""


def on_device(operation: str, call: Callable[..., ReturnT], *args: object) -> ReturnT:
    """Calls a backend; whatever it raises becomes a `BackendError` that names the operation and the cause."""
    try:
        return call(*args)
    except (RankportError, DeviceLost):
        raise
    except Exception as error:
        raise BackendError(f"{operation} failed on the device: {type(error).__name__}: {error}") from error
