"""Futures of several: all results in order, the first error, a cancel that reaches each; and one converted."""

import threading
from concurrent.futures import Future

import pytest

from rankport.protos.processes.own_future import OwnFuture
from rankport.runtime.scheduling.futures import converted, gathered, settle


def test_results_come_in_the_order_of_the_parts() -> None:
    parts: list[Future[int]] = [Future(), Future()]
    whole = gathered(parts)
    parts[1].set_result(2)
    assert not whole.done()
    parts[0].set_result(1)
    assert whole.result(0) == (1, 2)


def test_the_first_error_is_that_of_all_and_ends_what_has_not_begun() -> None:
    parts: list[Future[int]] = [Future(), Future(), Future()]
    whole = gathered(parts)
    assert parts[0].set_running_or_notify_cancel()
    parts[1].set_exception(ValueError("first"))
    assert parts[2].cancelled()
    parts[0].set_exception(ValueError("second"))
    with pytest.raises(ValueError, match="first"):
        whole.result(0)


def test_errors_of_parts_that_nobody_waits_for_any_more_are_no_faults(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts: list[Future[int]] = [Future(), Future()]
    whole = gathered(parts)
    for part in parts:
        assert part.set_running_or_notify_cancel()
    whole.cancel()
    for part in parts:
        part.set_exception(ValueError("too late"))
    assert not caplog.records


def test_a_cancel_reaches_every_part_and_one_that_is_cancelled_all() -> None:
    parts: list[Future[int]] = [Future(), Future()]
    gathered(parts).cancel()
    assert [part.cancelled() for part in parts] == [True, True]
    others: list[Future[int]] = [Future(), Future()]
    whole = gathered(others)
    others[0].cancel()
    assert whole.cancelled()
    assert others[1].cancelled()


def test_what_is_not_answered_yet_becomes_what_is_made_of_it_in_one_future() -> None:
    inner: Future[int] = OwnFuture()
    outer = converted(converted(inner, lambda number: number + 1), str)
    assert outer is inner
    inner.set_result(1)
    assert outer.result(0) == "2"


def test_what_is_answered_already_is_converted_all_the_same() -> None:
    inner: Future[int] = OwnFuture()
    inner.set_result(1)
    assert converted(inner, str).result(0) == "1"
    assert inner.result(0) == 1


@pytest.mark.parametrize("answered", [True, False])
def test_an_error_on_the_way_is_heard_by_whoever_waits(answered: bool) -> None:
    def fails(number: int) -> str:
        raise ValueError(f"no word for {number}")

    inner: Future[int] = OwnFuture()
    if answered:
        inner.set_result(1)
    outer = converted(converted(inner, fails), len)
    heard: list[BaseException | None] = []
    outer.add_done_callback(lambda done: heard.append(done.exception()))
    if not answered:
        inner.set_result(1)
    with pytest.raises(ValueError, match="no word for 1"):
        outer.result(0)
    assert [str(error) for error in heard] == ["no word for 1"]


def test_an_error_of_the_first_passes_by_what_would_be_made_of_it() -> None:
    inner: Future[int] = OwnFuture()
    outer = converted(inner, lambda _: pytest.fail("there is no result"))
    inner.set_exception(KeyError("lost"))
    with pytest.raises(KeyError, match="lost"):
        outer.result(0)


def test_a_cancel_comes_before_the_answer_or_is_refused_while_it_is_made() -> None:
    refused: list[bool] = []

    def cancels_late(number: int) -> int:
        refused.append(outer.cancel())
        return number

    early: Future[int] = OwnFuture()
    assert converted(early, str).cancel()
    assert early.cancelled()
    inner: Future[int] = OwnFuture()
    outer = converted(inner, cancels_late)
    settle(inner, inner.set_result, 3)
    assert refused == [False]
    assert outer.result(0) == 3


def test_no_result_is_lost_between_a_thread_that_answers_and_one_that_converts() -> None:
    def both(number: int) -> str:
        inner: Future[int] = OwnFuture()
        answering = threading.Thread(target=inner.set_result, args=(number,))
        answering.start()
        outer = converted(inner, str)
        answering.join()
        return outer.result(10)

    assert [both(number) for number in range(50)] == [str(number) for number in range(50)]
