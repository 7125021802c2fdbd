"""Futures of several: all results in order, the first error, and a cancel that reaches each."""

from concurrent.futures import Future

import pytest

from rankport.runtime.scheduling.futures import gathered


def test_results_come_in_the_order_of_the_parts() -> None:
    parts: list[Future[int]] = [Future(), Future()]
    whole = gathered(parts)
    parts[1].set_result(2)
    assert not whole.done()
    parts[0].set_result(1)
    assert whole.result(0) == (1, 2)


def test_the_first_error_is_that_of_all() -> None:
    parts: list[Future[int]] = [Future(), Future()]
    whole = gathered(parts)
    parts[1].set_exception(ValueError("first"))
    parts[0].set_exception(ValueError("second"))
    with pytest.raises(ValueError, match="first"):
        whole.result(0)


def test_a_cancel_reaches_every_part_and_one_that_is_cancelled_all() -> None:
    parts: list[Future[int]] = [Future(), Future()]
    gathered(parts).cancel()
    assert [part.cancelled() for part in parts] == [True, True]
    others: list[Future[int]] = [Future(), Future()]
    whole = gathered(others)
    others[0].cancel()
    assert whole.cancelled()
    assert others[1].cancelled()
