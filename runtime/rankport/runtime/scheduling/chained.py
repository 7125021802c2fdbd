"""Work in two steps: the second one begins with the result of the first, or where the first failed in one way."""

import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from rankport.protos.errors import Unavailable
from rankport.runtime.scheduling.futures import resolved, settle

_NOT_BEGUN = "the model was closed, or the server stops, before the request could go on: send it again"

FirstT = TypeVar("FirstT")
ThenT = TypeVar("ThenT")
FailureT = TypeVar("FailureT", bound=Exception)


def chained(
    first: "Future[FirstT]", then: "Callable[[FirstT], Future[ThenT]]", executor: Executor
) -> "Future[ThenT]":
    """Makes a future of the step that `then` begins, in the executor, with the result of the first.

    Its context variables are those of now: the second step has the caller's priority, and counts into its meter.

    Cancelling it cancels the step that is under way; errors of either pass through.
    """
    outer: Future[ThenT] = Future()
    context = copy_context()
    _cancels(outer, first)

    def begin(result: FirstT) -> None:
        context.run(_begin, outer, then, result)

    first.add_done_callback(partial(_go_on, outer, begin, executor))
    return outer


def begun(step: "Callable[[], Future[ThenT]]", executor: Executor) -> "Future[ThenT]":
    """Makes a future of a step that the executor begins, for what takes long until it is queued. As `chained`."""
    return chained(resolved(None), lambda _: step(), executor)


def retried(
    first: "Future[ThenT]",
    failure: type[FailureT],
    again: "Callable[[FailureT], Future[ThenT]]",
    executor: Executor,
) -> "Future[ThenT]":
    """Makes a future of the first, or where that fails with a `failure` of the step that `again` begins then.

    Otherwise as `chained`: the executor is for the second step alone.
    """
    outer: Future[ThenT] = Future()
    context = copy_context()
    _cancels(outer, first)

    def end(first: "Future[ThenT]") -> None:
        error = None if first.cancelled() else first.exception()
        if not isinstance(error, failure):
            _end(outer, first)
        elif not outer.done():
            _queue(outer, executor, partial(context.run, _begin, outer, again, error))

    first.add_done_callback(end)
    return outer


def _go_on(
    outer: "Future[Any]", begin: Callable[[Any], None], executor: Executor, first: "Future[Any]"
) -> None:
    if outer.done():
        return
    if first.cancelled():
        outer.cancel()
    elif (error := first.exception()) is not None:
        settle(outer, outer.set_exception, error)
    else:
        _queue(outer, executor, partial(begin, first.result()))


def _queue(outer: "Future[Any]", executor: Executor, step: Callable[[], None]) -> None:
    """Has a step begin; an executor that is closed, before or while it waits, begins none."""
    try:
        queued = executor.submit(step)
    except RuntimeError:
        settle(outer, outer.set_exception, Unavailable(_NOT_BEGUN))
    else:
        queued.add_done_callback(partial(_given_up, outer))


def _given_up(outer: "Future[Any]", queued: "Future[None]") -> None:
    if queued.cancelled():
        settle(outer, outer.set_exception, Unavailable(_NOT_BEGUN))


def _begin(outer: "Future[Any]", then: "Callable[[Any], Future[Any]]", result: Any) -> None:
    if outer.done():  # nobody waits any more
        return

    def begin() -> None:
        second = then(result)
        _cancels(outer, second)
        second.add_done_callback(partial(_end, outer))

    _guarded(outer, begin)


def _guarded(outer: "Future[Any]", step: Callable[[], object]) -> None:
    try:
        step()
    except BaseException as error:  # whoever waits must hear of it
        settle(outer, outer.set_exception, error)


def _end(outer: "Future[Any]", second: "Future[Any]") -> None:
    if second.cancelled():
        outer.cancel()
    elif (error := second.exception()) is not None:
        settle(outer, outer.set_exception, error)
    else:
        settle(outer, outer.set_result, second.result())


def _cancels(outer: "Future[Any]", step: "Future[Any]") -> None:
    """Has a cancel of the whole reach a step. Weak: a step that is done is not kept."""
    reference = weakref.ref(step)

    def pass_on(done: "Future[Any]") -> None:
        alive = reference()
        if alive is not None and done.cancelled():
            alive.cancel()

    outer.add_done_callback(pass_on)
