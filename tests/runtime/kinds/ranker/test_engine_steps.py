"""Steps between the passes of the engine, in the thread that owns the device."""

import threading

import pytest

from rankport.protos.errors import (
    BackendError,
    Unavailable,
)
from rankport.runtime.backends.contract import DeviceLost
from rankport.runtime.config import EngineConfig
from support.engines import (
    ITEMS,
    WAIT_S,
    close_when_gated,
    gated,
    scored,
)
from support.reference_backend import submit, token_run


def test_a_step_runs_between_two_passes_in_the_thread_of_the_device() -> None:
    seen: list[tuple[int, int]] = []
    with gated() as (engine, backend, gate):
        waiting = submit(engine, token_run(1), ITEMS)
        step = engine.call(lambda: seen.append((threading.get_ident(), len(backend.passes))))
        assert not step.done()
        gate.opened.set()
        step.result(WAIT_S)
        scored(waiting)
        ((thread, passes),) = seen
        assert {thread} == backend.threads
        assert passes < len(backend.passes)
        idle = engine.call(lambda: seen.append((0, 0)))
        idle.result(WAIT_S)  # also when there is nothing else to do
        assert len(seen) == 2


def test_a_step_that_fails_fails_alone_and_a_closed_engine_takes_none() -> None:
    def fail() -> None:
        raise ValueError("no room")

    with gated(EngineConfig(max_queued_requests=10**9)) as (engine, _, gate):
        failing = engine.call(fail)
        gate.opened.set()
        with pytest.raises(BackendError, match=r"a step between passes failed.*no room"):
            failing.result(WAIT_S)
        scored(submit(engine, token_run(1), ITEMS))
        engine.close()
        with pytest.raises(Unavailable, match="closed"):
            engine.call(fail)


def test_a_step_that_waits_when_the_engine_closes_is_told() -> None:
    with gated() as (engine, _, gate):
        step = engine.call(lambda: None)
        close_when_gated(engine, gate, grace_s=0.0)
        with pytest.raises(Unavailable, match="closed before"):
            step.result(WAIT_S)


def test_a_step_that_ends_the_engine_leaves_no_other_step_waiting() -> None:
    def lost() -> None:
        raise DeviceLost("the device is gone")

    with gated() as (engine, _, gate):
        steps = [engine.call(lost), engine.call(lambda: None)]
        gate.opened.set()
        for step in steps:
            with pytest.raises(Unavailable, match="lost its device: the device is gone"):
                step.result(WAIT_S)
