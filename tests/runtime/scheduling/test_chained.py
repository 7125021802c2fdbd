"""Work in two steps: results, errors and cancels of either reach who waits."""

import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

from rankport.protos.errors import Unavailable
from rankport.runtime.scheduling.chained import chained, retried
from rankport.runtime.scheduling.meter import Meter, queued


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


def _done(executor: Executor) -> None:
    executor.submit(int).result(20.0)


def test_the_second_step_begins_with_the_result_of_the_first(executor: Executor) -> None:
    first, second, seen = Future[int](), Future[str](), list[int]()

    def then(result: int) -> "Future[str]":
        seen.append(result)
        return second

    outer = chained(first, then, executor)
    first.set_result(7)
    _done(executor)
    assert seen == [7]
    second.set_result("seven")
    assert outer.result(20.0) == "seven"


def test_the_second_step_counts_for_who_asked_for_the_first(executor: Executor) -> None:
    first = Future[int]()

    def then(tokens: int) -> "Future[None]":
        queued(tokens)
        done = Future[None]()
        done.set_result(None)
        return done

    with Meter() as meter:
        queued(2)
        outer = chained(first, then, executor)
    with Meter() as other:
        first.set_result(5)
        outer.result(20.0)
    assert (meter.tokens, other.tokens) == (7, 0)


@pytest.mark.parametrize("waits", [True, False])
def test_a_second_step_that_a_closed_executor_does_not_begin_ends_the_wait(waits: bool) -> None:
    """It is closed while the step waits for a thread, or before."""
    held, failed = threading.Event(), Future[str]()
    failed.set_exception(ValueError())
    executor = ThreadPoolExecutor(1)
    executor.submit(held.wait, 20.0)
    if not waits:
        executor.shutdown(wait=False, cancel_futures=True)
    done = Future[int]()
    done.set_result(7)
    chain = chained(done, lambda _: Future[str](), executor)
    retry = retried(failed, ValueError, lambda _: Future[str](), executor)
    executor.shutdown(wait=False, cancel_futures=True)
    for outer in (chain, retry):
        with pytest.raises(Unavailable, match="send it again"):
            outer.result(0.0)
    held.set()


def test_errors_of_either_step_and_of_its_beginning_pass_through(executor: Executor) -> None:
    def refuse(_: int) -> "Future[str]":
        raise ValueError("begun wrongly")

    failed, fine = Future[int](), Future[int]()
    failed.set_exception(ValueError("the first"))
    fine.set_result(1)
    second = Future[str]()
    second.set_exception(ValueError("the second"))
    for outer, says in [
        (chained(failed, refuse, executor), "the first"),
        (chained(fine, refuse, executor), "begun wrongly"),
        (chained(fine, lambda _: second, executor), "the second"),
    ]:
        with pytest.raises(ValueError, match=says):
            outer.result(20.0)


def test_a_cancel_reaches_the_step_that_is_under_way_and_begins_no_other(executor: Executor) -> None:
    first, begun = Future[int](), list[int]()

    def then(result: int) -> "Future[str]":
        begun.append(result)
        return second

    assert chained(first, then, executor).cancel()
    assert first.cancelled()
    first, second = Future[int](), Future[str]()
    outer = chained(first, then, executor)
    first.set_result(1)
    _done(executor)
    assert outer.cancel()
    assert second.cancelled()
    assert begun == [1]


def test_a_step_that_is_cancelled_cancels_the_whole(executor: Executor) -> None:
    first, fine, second = Future[int](), Future[int](), Future[str]()
    whole = chained(first, lambda _: second, executor)
    first.cancel()
    assert whole.cancelled()
    fine.set_result(1)
    whole = chained(fine, lambda _: second, executor)
    _done(executor)
    second.cancel()
    assert whole.cancelled()


class WantedError(Exception):
    """Failure that a second step is for."""


def test_a_failure_of_one_kind_begins_the_second_step_as_its_caller_and_others_pass_through(
    executor: Executor,
) -> None:
    seen: list[str] = []

    def again(error: WantedError) -> "Future[str]":
        seen.append(str(error))
        queued(3)
        return second

    first, second, fine, other = (Future[str]() for _ in range(4))
    with Meter() as meter:
        outer = retried(first, WantedError, again, executor)
    first.set_exception(WantedError("first"))
    _done(executor)
    second.set_result("second")
    assert (outer.result(20.0), seen, meter.tokens) == ("second", ["first"], 3)
    fine.set_result("fine")
    assert retried(fine, WantedError, again, executor).result(20.0) == "fine"
    other.set_exception(ValueError("another"))
    with pytest.raises(ValueError, match="another"):
        retried(other, WantedError, again, executor).result(20.0)
    assert seen == ["first"]


def test_a_cancel_reaches_the_first_and_the_second_try(executor: Executor) -> None:
    begun: list[str] = []

    def again(error: WantedError) -> "Future[str]":
        begun.append(str(error))
        return second

    first, second = Future[str](), Future[str]()
    assert retried(first, WantedError, again, executor).cancel()
    assert first.cancelled()
    first = Future[str]()
    outer = retried(first, WantedError, again, executor)
    first.set_exception(WantedError("first"))
    _done(executor)
    assert outer.cancel()
    assert second.cancelled()
    assert begun == ["first"]
    cancelled = Future[str]()
    outer = retried(cancelled, WantedError, again, executor)
    cancelled.cancel()
    assert outer.cancelled()
