"""Quotas by a clock that the test moves."""

import pytest

from rankport.protos.errors import QuotaExceeded
from rankport.runtime.server.security.quota import Quota
from rankport.runtime.server.security.tokens import Limits


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_items_over_the_rate_are_refused_until_they_are_paid_for() -> None:
    clock = Clock()
    quota = Quota("search", Limits(items_per_s=10), clock)
    quota.check()
    quota.charge(25)  # larger than a second's worth: taken, and owed
    with pytest.raises(
        QuotaExceeded, match=r"more than its quota of 10 items a second; retry in 1\.60 s"
    ) as raised:
        quota.check()
    assert raised.value.retry_after_s == pytest.approx(1.6)
    clock.now_s += 1.55
    quota.check()


def test_over_time_a_client_has_its_rate_whatever_the_sizes() -> None:
    clock = Clock()
    quota = Quota("search", Limits(items_per_s=10), clock)
    taken = 0
    for tick in range(1000):
        clock.now_s += 0.1
        size = 1 + tick % 7
        try:
            quota.check()
        except QuotaExceeded:
            continue
        quota.charge(size)
        taken += size
    assert 1000 <= taken <= 1020  # 100 s at 10, and what may be ahead


def test_an_idle_client_saves_up_no_more_than_a_second() -> None:
    clock = Clock()
    quota = Quota("search", Limits(items_per_s=10), clock)
    clock.now_s += 1000
    quota.check()
    quota.charge(10)
    with pytest.raises(QuotaExceeded):
        quota.check()


def test_a_size_below_0_which_a_shape_may_claim_gives_nothing_back() -> None:
    clock = Clock()
    quota = Quota("search", Limits(items_per_s=10), clock)
    for _ in range(2):
        quota.check()
        quota.charge(9)
        quota.charge(-1_000_000)
    with pytest.raises(QuotaExceeded):
        quota.check()


def test_concurrent_requests_are_counted_and_given_back() -> None:
    quota = Quota("search", Limits(concurrent=1))
    quota.check()
    quota.enter()
    with pytest.raises(QuotaExceeded, match="search has 1 request pending, its quota is 1"):
        quota.check()
    quota.leave()
    quota.check()


def test_other_limits_forget_nothing_that_is_used() -> None:
    clock = Clock()
    quota = Quota("search", Limits(items_per_s=10), clock)
    quota.charge(30)
    quota.set_limits(Limits(items_per_s=20))
    with pytest.raises(QuotaExceeded, match=r"retry in 1\.05 s"):
        quota.check()
    quota.set_limits(Limits())
    quota.check()


def test_what_was_had_without_a_rate_is_not_owed_once_there_is_one() -> None:
    clock = Clock()
    quota = Quota("search", Limits(concurrent=64), clock)
    for limits in (Limits(items_per_s=10, tokens_per_s=10), Limits(), Limits(items_per_s=10)):
        quota.check()
        quota.charge(1_000_000)
        quota.charge_tokens(1_000_000)
        quota.set_limits(limits)
        quota.check()
        if limits.items_per_s:
            quota.charge(11)
            with pytest.raises(QuotaExceeded, match=r"retry in 0\.20 s"):
                quota.check()
            clock.now_s += 0.2
            quota.check()


def test_tokens_are_paid_for_beside_items() -> None:
    clock = Clock()
    quota = Quota("search", Limits(items_per_s=10, tokens_per_s=100), clock)
    quota.check()
    quota.charge(1)
    quota.charge_tokens(249)  # of a text that was read
    with pytest.raises(QuotaExceeded, match=r"more than its quota of 100 tokens a second; retry in 1\.50 s"):
        quota.check()
    clock.now_s += 1.5
    quota.check()
    quota.charge(30)
    with pytest.raises(QuotaExceeded, match="10 items a second"):
        quota.check()
