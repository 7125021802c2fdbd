"""Work that a worker is given, and the requests it computes it for.

The seam between the thread with its queue, in `worker`, and what it computes, in the `engine` of each kind.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from rankport.protos.errors import BackendError, DeadlineExceeded, RankportError
from rankport.protos.priorities import Priority, own_priority
from rankport.protos.processes.own_future import OwnFuture
from rankport.protos.wording import counted
from rankport.runtime.backends.contract import DeviceLost, WeightsChanged

ReturnT = TypeVar("ReturnT")


@dataclass(slots=True, eq=False, kw_only=True)
class Request(ABC):
    """A request as the worker sees it; `Work` subclasses it with what is to be computed."""

    tokens: int  # weight in the queue
    to_compute: int  # of them, what is not cached, once it is prepared
    priority: Priority = field(default_factory=own_priority)  # of the code that submits it
    large: bool = False  # by what is to compute, once it is prepared; one in the background always
    owed: float = 0.0  # tokens, by its share of the passes so far: see `turns`
    submitted_s: float  # by the worker's clock
    timeout_s: float | None  # as the caller gave it
    spent_s: float = 0.0  # of it, before submission
    # Stays pending until the answer is set, so that a cancel succeeds at any time before.
    future: "Future[Any]" = field(default_factory=OwnFuture)
    started: bool = False  # takes or took part in a pass
    passes: int = 0  # that were started for it and have not ended
    computing_since_s: float = 0.0  # with at least one of them; counted in `compute_s` up to then
    compute_s: float = 0.0  # in passes it took part in, once where they overlap

    @property
    def left_s(self) -> float | None:
        """Seconds that were left of its timeout when it was submitted; None: it has none."""
        return None if self.timeout_s is None else self.timeout_s - self.spent_s

    @property
    @abstractmethod
    def exhausted(self) -> bool:
        """True when all its passes are started."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """True when the answer is complete."""

    @abstractmethod
    def answer(self, waited_s: float) -> Any:
        """Makes the result of the future, given the seconds since submission spent outside the request's passes.

        A `RankportError` raised here fails this request alone.
        """

    def deadline_error(self) -> DeadlineExceeded:
        """Makes the error of one that expired."""
        stage = f"after {self.compute_s:.3f} s of computing" if self.started else "before its first pass"
        return DeadlineExceeded(
            f"timeout_s={self.timeout_s} ran out {stage}: allow more time, or send fewer items at once"
        )

    def expired(self, now_s: float) -> bool:
        return self.timeout_s is not None and self.spent_s + now_s - self.submitted_s >= self.timeout_s


RequestT = TypeVar("RequestT", bound=Request)


@dataclass(frozen=True, slots=True)
class PassSize:
    """Size of a pass, as it is told to people."""

    stage: str  # "prefill", "score", or the role of a graph of texts
    runs: int  # prefixes, items or texts
    tokens: int
    padded_tokens: int  # of the layout, padding included

    @property
    def in_words(self) -> str:
        """Words for it: its stage, runs and tokens."""
        return f"a {self.stage} pass of {counted(self.runs, 'run')}, {counted(self.tokens, 'token')}"


@dataclass(frozen=True, slots=True)
class Pass(Generic[RequestT]):
    """One call of the device.

    `start` changes requests only when it succeeds; it gives what is `UnderWay`, if anything. A pass that does not start
    is tried again for each request alone.
    """

    requests: tuple[RequestT, ...]  # that take part, at least one
    tokens: tuple[int, ...]  # of each
    start: "Callable[[], UnderWay[RequestT] | None]"
    size: PassSize


@dataclass(frozen=True, slots=True)
class UnderWay(Generic[RequestT]):
    """Rest of a pass that was started and is being computed."""

    record: Callable[[], None]  # waits for the results and records them; the worker's thread
    # Done once nothing is left to wait for; None: passes end in the order of their start.
    future: "Future[Any] | None" = None
    # Makes the pass of what one request has of a joint one that failed; None: it fails all of its requests.
    again: Callable[[RequestT], Pass[RequestT]] | None = None


def taking_part(
    requests: Sequence[RequestT],
    takes: Sequence[int],
    tokens: Sequence[int],
    start: Callable[[Sequence[tuple[RequestT, int]]], UnderWay[RequestT] | None],
    size: PassSize,
) -> Pass[RequestT]:
    """Makes the pass of those requests that take something of it, `start` given how much each takes."""
    shares = tuple((request, take) for request, take in zip(requests, takes, strict=True) if take)
    requests = tuple(request for request, _ in shares)
    return Pass(requests, tuple(filter(None, tokens)), partial(start, shares), size)


def why_it_stopped(error: BaseException) -> str:
    """Says what ended an engine."""
    if isinstance(error, WeightsChanged):
        return f"the engine stopped: {error}"
    if isinstance(error, DeviceLost):
        return f"the engine lost its device: {error}"
    return f"the engine stopped on a bug: {error!r}"


class Work(Protocol[RequestT]):
    """Computation of a worker; called by its thread only.

    A `RankportError` raised here fails the requests at hand. Any other, `DeviceLost` or a bug, ends the worker.
    """

    def prepare(self, request: RequestT) -> bool:
        """Prepares an active request, before every pass; False where it has to wait for a pass under way."""

    def plan(self, active: Sequence[RequestT], max_bulk_tokens: int | None) -> Pass[RequestT]:
        """Plans the next pass over some unfinished, prepared requests, in the order of their turns.

        The large ones may have `max_bulk_tokens` of it together; None: as many as the pass may have.
        """

    def retire(self, request: RequestT) -> None:
        """Frees what `prepare` took, if anything, once no pass of it is under way; harmless when repeated."""

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
