"""Admission without a protocol: places, bytes, the hint when to come again, and the end."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from rankport.protos.errors import InvalidRequest, Overloaded, Unavailable
from rankport.runtime.server.admission import Admission
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.observing.observer import Observer
from rankport.runtime.server.pace import Pace


def admission_of(config: ServerConfig) -> Admission:
    return Admission(config, Observer(config.observing))


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_places_and_bytes_are_given_back_whatever_happens() -> None:
    admission = admission_of(ServerConfig(max_pending_calls=2, max_pending_bytes=100))
    with admission.admitted(60):
        with pytest.raises(Overloaded, match="have 60 bytes and this one 41, the limit is 100"):
            admission.enter(41)
        admission.enter(40)
        with pytest.raises(Overloaded, match="2 requests are pending, the limit is 2"):
            admission.enter(0)
        admission.leave(40)
        with pytest.raises(ZeroDivisionError), admission.admitted(40):
            raise ZeroDivisionError
        with admission.admitted(40):
            pass
    with admission.admitted(101):  # one alone is always taken
        pass


def test_ends_are_counted_by_outcome() -> None:
    admission = admission_of(ServerConfig())
    with admission.counted(lambda: Outcome.DEADLINE):
        pass
    for error in (Overloaded("full"), InvalidRequest("bad"), ZeroDivisionError(), asyncio.CancelledError()):
        with pytest.raises(type(error)), admission.counted(lambda: Outcome.DEADLINE):
            raise error
    counted = {outcome: count for outcome, count in admission.counts.snapshot().items() if count}
    kinds = (Outcome.ANSWERED, Outcome.REJECTED, Outcome.INVALID, Outcome.OTHER, Outcome.DEADLINE)
    assert counted == dict.fromkeys(kinds, 1)


def test_a_drain_refuses_new_work_and_waits_for_open_calls() -> None:
    async def drained() -> None:
        admission = admission_of(ServerConfig())
        admission.opened()
        assert not await admission.drain(0.001)
        with pytest.raises(Unavailable, match="stopping"):
            admission.enter(0)
        # Of a stream that read it before: it was refused, and a client that goes on elsewhere had its answer.
        admission.enter(0, streamed=True)
        asyncio.get_running_loop().call_soon(admission.closed)
        assert await admission.drain(10)
        assert not await admission.quiet(quiet_s=10, timeout_s=0.001)
        assert await admission.quiet(quiet_s=0.001, timeout_s=10)

    run(drained())


def test_the_pace_is_that_of_the_last_ends() -> None:
    now_s = 0.0
    pace = Pace(lambda: now_s)
    assert pace.seconds_for(100) == 0.05  # nothing is known: the least
    for _ in range(300):
        pace.ended()
        now_s += 0.02
    assert pace.seconds_for(100) == pytest.approx(2.0, rel=0.01)
    assert pace.seconds_for(10_000) == 5.0
    now_s += 3600  # an idle hour says nothing of the pace
    pace.ended()
    assert pace.seconds_for(10) < 5.0


def test_hints_are_spread_around_the_pace() -> None:
    admission = admission_of(ServerConfig())
    hints = {admission.retry_after_s() for _ in range(50)}
    assert len(hints) > 40
    assert all(0.025 <= hint <= 0.075 for hint in hints)
