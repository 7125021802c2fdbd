"""How passes of a ranker of sets beside each other end: failed, late, cancelled, stopped, stuck; nothing is lost."""

import time
from dataclasses import replace

import numpy as np
import pytest

from rankport.protos.errors import BackendError, DeadlineExceeded, Unavailable
from rankport.runtime.backends.contract import DeviceLost
from rankport.runtime.kinds.set_ranker.engine import SetEngine
from support.engines import WAIT_S, Clock
from support.sets.engines import HELD, TWO, Holding, answered, holding
from support.sets.reference import EVENT_BYTES, HEADS, MASKS, full, submit

OTHER = 42


def wait_for_starts(engine: SetEngine, waiting: int) -> None:
    """Waits until no more wait for their first pass."""
    until_s = time.monotonic() + WAIT_S
    while engine.counts().queue.waiting_requests > waiting:
        assert time.monotonic() < until_s
        time.sleep(0.001)


@pytest.mark.parametrize(("fails", "cached"), [("history", 2), ("rank", 3)])
def test_a_failed_pass_fails_its_own_request_alone_and_what_was_computed_is_kept(
    fails: str, cached: int
) -> None:
    failures = iter([True])
    backend = Holding()

    def fail_once(kind: str, numbers: list[int]) -> None:
        backend.hold(kind, numbers)
        if kind == fails and numbers in ([HELD], [4]) and next(failures, False):
            raise OSError("the device hiccups")

    backend.before_call = fail_once
    with holding(backend) as engine:
        first = submit(engine, [1, 2, HELD], [4])
        assert backend.reached.wait(WAIT_S)
        second = submit(engine, [1, 2, HELD], [5])
        backend.opened.set()
        with pytest.raises(BackendError, match=f"{fails} failed on the device: OSError: the device hiccups"):
            answered(first)
        assert answered(second).cached == cached
        assert engine.counts().failed_passes == 1


def test_what_a_pass_under_way_reads_stays_though_its_request_was_cancelled() -> None:
    backend = Holding()
    config = replace(TWO, prefix_cache_bytes=4 * EVENT_BYTES)
    with holding(backend, config) as engine:
        answered(submit(engine, [1, 2], [3]))
        reading = submit(engine, [1, 2], [HELD])
        assert backend.reached.wait(WAIT_S)
        assert reading.cancel()
        for first in (4, 5):
            answered(submit(engine, [first, first], [3]))
        assert engine.cache_stats().evictions == 1, "of those two, which read no more"
        assert answered(submit(engine, [1, 2], [3])).cached == 2
        backend.opened.set()
    assert engine.cache_stats().bytes == 0


def test_states_that_find_no_room_live_as_long_as_their_pass() -> None:
    backend = Holding()
    with holding(backend, replace(TWO, prefix_cache_bytes=0)) as engine:
        slow = submit(engine, [1, 2, HELD], [3])
        assert backend.reached.wait(WAIT_S)
        answered(submit(engine, [4, 5, 6], [3]))
        backend.opened.set()
        np.testing.assert_allclose(answered(slow).logits, full("set-wise", [1, 2, HELD], [3]), atol=1e-6)
        assert engine.cache_stats().bytes == 0


def test_states_that_no_request_uses_give_way_to_a_pass_that_finds_no_memory() -> None:
    backend = Holding()

    def check(kind: str, numbers: list[int]) -> None:
        if kind == "rank" and numbers == [4] and engine.cache_stats().bytes > EVENT_BYTES:
            error = BackendError("no memory left")
            error.wants_memory = True
            raise error

    backend.before_call = check
    with holding(backend, replace(TWO, instances=1)) as engine:
        answered(submit(engine, [1, 2], [3]))
        found = answered(submit(engine, [5], [4]))
        np.testing.assert_allclose(found.logits, full("set-wise", [5], [4]), atol=1e-6)
        assert engine.cache_stats().bytes == EVENT_BYTES
        with pytest.raises(BackendError, match="no memory left"):
            answered(submit(engine, [1, 2], [4]))


def test_a_request_whose_time_ran_out_before_its_pass_has_none() -> None:
    backend, clock = Holding(), Clock()
    with holding(backend, clock=clock) as engine:
        held = [submit(engine, [], [HELD], timeout_s=1.0) for _ in range(2)]
        wait_for_starts(engine, waiting=0)
        late = submit(engine, [], [1], timeout_s=1.0)
        clock.now_s = 2.0
        backend.opened.set()
        with pytest.raises(DeadlineExceeded, match="before its first pass"):
            answered(late)
        for future in held:
            assert answered(future).compute_s == 2.0, "it was complete"
    assert backend.numbers("rank") == [[HELD], [HELD]]


def test_a_request_whose_time_ran_out_as_its_history_was_read_is_not_ranked() -> None:
    backend, clock = Holding(), Clock()
    with holding(backend, clock=clock) as engine:
        late = submit(engine, [1, HELD, 2], [3], timeout_s=1.0)
        assert backend.reached.wait(WAIT_S)
        clock.now_s = 2.0
        backend.opened.set()
        with pytest.raises(DeadlineExceeded, match=r"after .* of computing"):
            answered(late)
        assert answered(submit(engine, [1, HELD], [3])).cached == 2
    assert backend.calls == [("history", [1, HELD]), ("rank", [3])]


def test_a_stop_waits_for_passes_under_way_and_cancels_none() -> None:
    backend = Holding()
    engine = SetEngine(backend, MASKS["set-wise"], HEADS, TWO)
    futures = [submit(engine, [], [HELD, first]) for first in (1, 2, 3)]
    wait_for_starts(engine, waiting=1)
    engine.stop()
    backend.opened.set()
    engine.close()
    for first, future in zip((1, 2), futures[:2], strict=True):
        np.testing.assert_allclose(answered(future).logits, full("set-wise", [], [HELD, first]), atol=1e-6)
    with pytest.raises(Unavailable, match="closed before"):
        answered(futures[2])
    assert backend.closed


def test_a_lost_device_ends_the_engine_once_the_other_pass_has_ended() -> None:
    backend = Holding()

    def lose(kind: str, numbers: list[int]) -> None:
        backend.hold(kind, numbers)
        if OTHER in numbers:
            raise DeviceLost("the weights were written over")

    backend.before_call = lose
    engine = SetEngine(backend, MASKS["set-wise"], HEADS, TWO)
    held = submit(engine, [1], [HELD])
    assert backend.reached.wait(WAIT_S)
    for future in (submit(engine, [2], [OTHER]), held):
        with pytest.raises(Unavailable, match="lost its device: the weights were written over"):
            answered(future)
    assert not engine.alive
    assert not backend.closed, "a pass reads it"
    backend.opened.set()
    engine.close()
    assert backend.closed


def test_a_stuck_pass_is_seen_though_the_others_go_on() -> None:
    backend, clock = Holding(), Clock()
    with holding(backend, clock=clock) as engine:
        slow = submit(engine, [1, 2], [HELD])
        assert backend.reached.wait(WAIT_S)
        clock.now_s = 70.0
        answered(submit(engine, [], [1]))
        counts = engine.counts()
        assert counts.silent_s == 70.0
        assert counts.doing == "a rank pass of 1 run, 1 token of 1 request"
        backend.opened.set()
        answered(slow)
    assert engine.counts().silent_s == 0.0
