"""Futures made of futures, and waiting for them."""

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic, TypeVar, cast

from rankport.protos.errors import DeadlineExceeded, RankportError
from rankport.protos.processes.own_future import OwnFuture

_log = logging.getLogger(__name__)

InnerT = TypeVar("InnerT")
OuterT = TypeVar("OuterT")


def converted(inner: "Future[InnerT]", convert: Callable[[InnerT], OuterT]) -> "Future[OuterT]":
    """Makes a future of `convert(result)`; cancelling it cancels `inner`, and errors of either pass through.

    `inner` is given away: it may be the future that is returned.
    """
    if isinstance(inner, OwnFuture) and inner.becomes(convert):
        return cast("Future[OuterT]", inner)
    outer: Future[OuterT] = OwnFuture()
    # Weak, or the two would keep each other and both results alive until a garbage collection.
    outer.add_done_callback(partial(_cancel_inner, weakref.ref(inner)))
    inner.add_done_callback(partial(_resolve_outer, outer, convert))
    return outer


def gathered(parts: "Sequence[Future[InnerT]]") -> "Future[tuple[InnerT, ...]]":
    """Makes a future of the results of all, at least one. An error of one is its own, and cancels the others.

    Cancelling it cancels all.
    """
    gathering = _Gathering[InnerT](len(parts))
    for part in parts:
        gathering.outer.add_done_callback(partial(_cancel_part, weakref.ref(part)))
    for place, part in enumerate(parts):
        part.add_done_callback(partial(gathering.take, place))
    return gathering.outer


def resolved(result: OuterT) -> "Future[OuterT]":
    """Makes a future that is done."""
    future: Future[OuterT] = Future()
    future.set_result(result)
    return future


def settle(future: "Future[Any]", resolve: Callable[[Any], None], value: object) -> None:
    """Claims and resolves, at the very end: a cancel either came before and stands, or is refused."""
    if future.done() and not future.cancelled():
        return
    if future.running() or future.set_running_or_notify_cancel():
        resolve(value)


def log_failure(step: Callable[[], None]) -> None:
    """Runs a step of a shutdown, whose failure must not keep the next ones from running."""
    try:
        step()
    except Exception:
        _log.exception("a step of the engine's shutdown failed")


def result_within(future: "Future[OuterT]", timeout_s: float | None) -> OuterT:
    """Waits for the result; cancels the future if none came. Raises `DeadlineExceeded` or its error."""
    try:
        return future.result(timeout_s)
    except RankportError:
        raise
    except TimeoutError:
        raise DeadlineExceeded(
            f"timeout_s={timeout_s} ran out: allow more time, or send less at once"
        ) from None
    finally:
        future.cancel()  # does nothing once there is a result


class _Gathering(Generic[InnerT]):
    """Results so far of several futures, none of which it refers to."""

    def __init__(self, count: int) -> None:
        self.outer: Future[tuple[InnerT, ...]] = OwnFuture()
        self._results: dict[int, InnerT] = {}
        self._count = count
        self._settled = False
        self._lock = threading.Lock()  # guards the two above

    def take(self, place: int, part: "Future[InnerT]") -> None:
        if part.cancelled():
            self.outer.cancel()
            return
        error = part.exception()
        with self._lock:
            if error is None:
                self._results[place] = part.result()
            last = len(self._results) == self._count
            if self._settled or not (error or last):
                return
            self._settled = True  # by this thread, and no other one
        if error is not None:
            settle(self.outer, self.outer.set_exception, error)
        else:
            ordered = tuple(self._results[index] for index in range(self._count))
            settle(self.outer, self.outer.set_result, ordered)


def _cancel_part(part: "weakref.ref[Future[InnerT]]", outer: "Future[OuterT]") -> None:
    """Has nobody compute what nobody waits for; does nothing to a part that is done."""
    alive = part()
    if alive is not None:
        alive.cancel()


def _cancel_inner(inner: "weakref.ref[Future[InnerT]]", outer: "Future[OuterT]") -> None:
    alive = inner()
    if alive is not None and outer.cancelled():
        alive.cancel()


def _resolve_outer(
    outer: "Future[OuterT]", convert: Callable[[InnerT], OuterT], inner: "Future[InnerT]"
) -> None:
    if inner.cancelled():
        outer.cancel()
    if not outer.set_running_or_notify_cancel():
        return
    try:
        outer.set_result(convert(inner.result()))
    except BaseException as error:  # whoever waits must hear of it
        outer.set_exception(error)
