"""`Readiness`: stuck passes and refusals without a pause, by a clock that the test sets."""

import logging
from dataclasses import replace

import pytest

from rankport.runtime.kinds.capabilities import ModelCounts
from rankport.runtime.scheduling.counts import Queue, WorkerCounts
from rankport.runtime.scheduling.work import PassSize
from rankport.runtime.server.observing.config import ObservingConfig
from rankport.runtime.server.observing.readiness import HOPELESS_LOOKS, Readiness
from support.engines import Clock

ALIVE = {"a": True, "b": True}
FOR = {"a": ("a@1",), "b": ("b@1",)}


def in_a_pass_for(seconds: float) -> ModelCounts:
    clock = Clock()
    counts = WorkerCounts(clock)
    counts.begins(PassSize("score", 250, 500, 512), 3)
    clock.now_s = seconds
    return ModelCounts({"cuda:1": counts.snapshot("cuda", Queue(0, 0, 3))})


def test_a_pass_that_does_not_end_takes_its_model_out_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    readiness = Readiness(ObservingConfig(stuck_pass_s=30), lambda: 0)
    assert readiness.look(ALIVE, FOR, {"a@1": in_a_pass_for(29)}) == ALIVE
    for seconds in (30, 31):
        assert readiness.look(ALIVE, FOR, {"a@1": in_a_pass_for(seconds)}) == {"a": False, "b": True}
    told = "model a@1 is stuck on cuda:1 in a score pass of 250 runs, 500 tokens of 3 requests for over 30 s"
    assert [record.levelno for record in caplog.records if told in record.message] == [logging.ERROR]
    assert readiness.look(ALIVE, FOR, {}) == ALIVE
    assert "model a@1 is well again" in caplog.text


def test_a_pass_is_hopeless_at_five_times_the_limit_and_not_at_one_look_alone() -> None:
    readiness = Readiness(ObservingConfig(stuck_pass_s=30), lambda: 0)
    for seconds, hopeless in ((149, False), (150, True), (1, False)):
        for _ in range(HOPELESS_LOOKS - 1):
            readiness.look(ALIVE, FOR, {"a@1": in_a_pass_for(seconds)})
            assert not readiness.hopeless
        readiness.look(ALIVE, FOR, {"a@1": in_a_pass_for(seconds)})
        assert readiness.hopeless == hopeless
        readiness.look(ALIVE, FOR, {})
        assert not readiness.hopeless


def test_an_engine_that_stopped_by_itself_is_hopeless_whatever_the_limit() -> None:
    counts = WorkerCounts(Clock())
    counts.stops()
    stopped = ModelCounts({"cpu": counts.snapshot("cpu", Queue(0, 0, 0))})
    readiness = Readiness(ObservingConfig(stuck_pass_s=0), lambda: 0)
    for _ in range(HOPELESS_LOOKS):
        assert not readiness.hopeless
        readiness.look({"a": False, "b": True}, FOR, {"a@1": stopped})
    assert readiness.hopeless


def test_a_model_that_stopped_is_told_from_one_whose_store_cannot_be_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counts = WorkerCounts(Clock())
    going = ModelCounts({"cpu": counts.snapshot("cpu", Queue(0, 0, 0))})
    counts.stops()
    stopped = ModelCounts({"cpu": counts.snapshot("cpu", Queue(0, 0, 0))})
    readiness = Readiness(ObservingConfig(), lambda: 0)
    readiness.look({"a": False, "b": False}, FOR, {"a@1": stopped, "b@1": going})
    assert readiness.reasons["a"].startswith("has stopped, as the log said: load it again")
    assert readiness.reasons["b"].startswith("cannot read its token store, or its files")
    assert "model b cannot read its token store" in caplog.text


def test_a_model_whose_engine_has_ended_waits_for_its_process_and_is_not_stuck() -> None:
    (engine,) = in_a_pass_for(1e6).engines.values()
    away = ModelCounts({"cpu": replace(engine, away=True)})
    readiness = Readiness(ObservingConfig(), lambda: 0)
    readiness.look({"a": False}, FOR, {"a@1": away})
    assert readiness.reasons == {"a": "waits for its engine's process, which has ended and is started again"}


def test_without_a_limit_no_pass_is_stuck() -> None:
    readiness = Readiness(ObservingConfig(stuck_pass_s=0), lambda: 0)
    for _ in range(2 * HOPELESS_LOOKS):
        assert readiness.look(ALIVE, FOR, {"a@1": in_a_pass_for(1e6)}) == ALIVE
    assert not readiness.hopeless


def test_refusals_without_a_pause_count_as_saturation_until_there_is_one() -> None:
    clock, refused = Clock(100.0), [0]
    readiness = Readiness(ObservingConfig(saturated_s=3), lambda: refused[0], clock)
    seen = []
    for step in range(16):
        clock.now_s += 0.5
        refused[0] += step < 10
        seen.append(all(readiness.look(ALIVE, FOR, {}).values()))
    # Three seconds after the first refusal, to two after the last.
    assert seen == [True] * 6 + [False] * 7 + [True] * 3


def test_saturation_is_told_but_not_acted_on_by_default() -> None:
    clock, refused = Clock(), [0]
    readiness = Readiness(ObservingConfig(), lambda: refused[0], clock)
    for _ in range(100):
        clock.now_s += 1.0
        refused[0] += 1
        assert readiness.look(ALIVE, FOR, {}) == ALIVE
    assert readiness.saturated_s == 99.0
