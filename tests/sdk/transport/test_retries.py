"""Retries of calls that no server took: how many, when, and never past the call's timeout."""

import pytest

from rankport.protos.errors import Overloaded, Unavailable
from rankport.sdk.transport.retries import REFUSALS, Refusal, RetryBudget, Tries


def overloaded(retry_after_s: float | None = None) -> Overloaded:
    error = Overloaded("full")
    error.retry_after_s = retry_after_s
    return error


def waits(tries: Tries, error: Refusal) -> list[float]:
    """The waits of a call that is refused every time."""
    waited: list[float] = []
    while True:
        try:
            waited.append(tries.wait_s(error))
        except REFUSALS:
            return waited


def test_a_call_is_made_three_times_more_and_waits_three_times_as_long_each_time() -> None:
    waited = waits(RetryBudget().tries(None), overloaded())
    assert [least <= wait <= 1.2 * least for wait, least in zip(waited, (0.1, 0.3, 0.9), strict=True)] == [
        True
    ] * 3


def test_no_two_callers_wait_alike() -> None:
    assert len({RetryBudget().tries(None).wait_s(overloaded()) for _ in range(20)}) == 20


def test_the_servers_hint_is_the_least_wait() -> None:
    assert all(0.7 <= wait <= 0.84 for wait in waits(RetryBudget().tries(None), overloaded(0.7)))


def test_a_hint_below_0_and_a_wait_past_the_timeout_end_the_call_at_once() -> None:
    for error, timeout_s in ((overloaded(-1.0), None), (overloaded(5.0), 1.0), (overloaded(), 0.05)):
        budget = RetryBudget()
        assert waits(budget.tries(timeout_s), error) == []
        assert len(waits(budget.tries(None), overloaded(0.1))) == 3  # nothing was taken of the budget


def test_retries_are_ten_in_a_row_and_one_of_ten_calls_after() -> None:
    budget = RetryBudget()
    made = [len(waits(budget.tries(None), overloaded())) for _ in range(1000)]
    assert made[:3] == [3, 3, 3]
    assert sum(made) == pytest.approx(10 + 100, abs=1)


def test_calls_that_are_answered_earn_no_more_than_ten_in_a_row() -> None:
    budget = RetryBudget()
    for _ in range(1000):
        budget.tries(None)
    assert sum(len(waits(budget.tries(None), overloaded())) for _ in range(5)) == 10


def test_of_servers_that_cannot_be_reached_they_are_twenty_in_a_row_beside_those_of_overload() -> None:
    budget = RetryBudget()
    made = [len(waits(budget.tries(None), Unavailable("gone"))) for _ in range(1000)]
    assert made[:6] == [3] * 6
    assert sum(made) == pytest.approx(20 + 100, abs=1)
    assert len(waits(budget.tries(None), overloaded())) == 3


def test_a_budget_that_is_not_enabled_has_none() -> None:
    assert waits(RetryBudget(enabled=False).tries(None), overloaded()) == []


def test_the_time_left_is_0_and_never_less() -> None:
    assert RetryBudget().tries(None).left_s() is None
    assert RetryBudget().tries(0.0).left_s() == 0.0
