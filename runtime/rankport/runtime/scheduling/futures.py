"""Futures made of futures, and waiting for them."""

import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from rankport.protos.errors import DeadlineExceeded, RankportError

InnerT = TypeVar("InnerT")
OuterT = TypeVar("OuterT")


def converted(inner: "Future[InnerT]", convert: Callable[[InnerT], OuterT]) -> "Future[OuterT]":
    """Makes a future of `convert(result)`; cancelling it cancels `inner`, and errors of either pass through."""
    outer: Future[OuterT] = Future()
    # Weak, or the two would keep each other and both results alive until a garbage collection.
    outer.add_done_callback(partial(_cancel_inner, weakref.ref(inner)))
    inner.add_done_callback(partial(_resolve_outer, outer, convert))
    return outer


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
