"""A request that could only run out of time is refused at once; one that may be answered never is."""

import pytest

from rankport.protos.errors import Overloaded
from rankport.runtime.config import EngineConfig
from rankport.runtime.scheduling.queue.backlog import Backlog

CONFIG = EngineConfig(max_batch_tokens=1000, max_bulk_tokens=250)


def experienced(tokens_per_s: float = 100.0) -> Backlog:
    """Makes a backlog that has seen 5 s of work."""
    backlog = Backlog(CONFIG)
    for second in range(1, 6):
        backlog.enter(int(tokens_per_s))
        backlog.leave(int(tokens_per_s), answered=True, busy_s=float(second))
    return backlog


def test_instances_share_what_is_ahead_and_each_takes_as_long_as_it_takes() -> None:
    backlog = Backlog(EngineConfig(max_batch_tokens=1000, max_bulk_tokens=250, instances=2))
    for second in range(1, 6):
        backlog.enter(100)
        backlog.leave(100, answered=True, busy_s=float(second))
    for _ in range(5):
        backlog.enter(200)
    assert backlog.wait_s(100) == pytest.approx(6.0)  # 5 s of what is ahead in two, 1 s of its own


def test_an_engine_without_other_requests_refuses_nothing() -> None:
    backlog = experienced()
    assert backlog.wait_s(1_000_000) is None
    backlog.check(1_000_000, 0.001)


def test_without_experience_nothing_is_refused() -> None:
    backlog = Backlog(CONFIG)
    backlog.enter(1000)
    assert backlog.wait_s(10) is None
    backlog.leave(1000, answered=True, busy_s=0.4)
    backlog.enter(1000)
    assert backlog.wait_s(10) is None


def test_the_wait_is_that_of_the_tokens_before_at_the_pace_of_late() -> None:
    backlog = experienced(100.0)
    for _ in range(5):
        backlog.enter(200)
    assert backlog.wait_s(100) == pytest.approx(11.0)
    backlog.leave(200, answered=True, busy_s=7.0)  # 700 tokens in 7 s by now
    assert backlog.wait_s(100) == pytest.approx(9.0)


def test_small_requests_wait_for_small_ones_beside_the_share_of_large_ones() -> None:
    backlog = experienced(100.0)
    backlog.enter(60_000)
    assert backlog.wait_s(75) == pytest.approx(1.0)  # three quarters of a pass are left to small ones
    assert backlog.wait_s(300) == pytest.approx(603.0)


def test_a_refusal_says_how_long_it_would_take_and_when_to_come_back() -> None:
    backlog = experienced(100.0)
    backlog.enter(250)
    backlog.enter(250)
    backlog.check(100, None)
    backlog.check(100, 7.0)
    told = "requests before this one take about 6.0 s, and 6.5 s are left of its timeout"
    with pytest.raises(Overloaded, match=told) as refused:
        backlog.check(100, 6.5)
    assert refused.value.retry_after_s == pytest.approx(0.4)


def test_a_slower_engine_is_noticed() -> None:
    backlog = experienced(100.0)
    for second in range(6, 60):
        backlog.enter(10)
        backlog.leave(10, answered=True, busy_s=float(second))
    backlog.enter(100)
    wait_s = backlog.wait_s(0)
    assert wait_s is not None
    assert 8.0 < wait_s < 11.0
