"""The counters of an engine: what its passes held, how long requests took, and what its thread is at."""

from concurrent.futures import wait

from rankport.protos.errors import BackendError
from rankport.runtime.scheduling.counts import Queue, StageCounts
from support.engines import ITEMS, POISON, WAIT_S, Clock, gated, refuse_poison, scored
from support.reference_backend import submit, token_run


def test_a_held_pass_and_what_waits_for_it_are_told() -> None:
    clock = Clock()
    with gated(clock=clock) as (engine, _, gate):
        waiting = submit(engine, token_run(1, 2), ITEMS)
        clock.now_s = 7.0
        counts = engine.counts()
        assert counts.queue == Queue(waiting_requests=1, waiting_tokens=8, active_requests=1)
        assert counts.doing == "a score pass of 1 run, 1 token of 1 request"
        assert (counts.silent_s, counts.busy_s, counts.stages) == (7.0, 7.0, {})
        gate.opened.set()
        scored(waiting)


def test_passes_are_counted_by_stage_with_their_padding() -> None:
    with gated() as (engine, _, gate):
        waiting = submit(engine, token_run(1, 2), ITEMS)
        gate.opened.set()
        scored(waiting)
        counts = engine.counts()
    # Three items of 1, 2 and 3 tokens; the gate's own request is one of 1.
    assert counts.stages["prefill"] == StageCounts(passes=1, runs=1, tokens=2, padded_tokens=2)
    score = counts.stages["score"]
    assert (score.runs, score.tokens) == (4, 7)
    assert 7 <= score.padded_tokens <= 10
    assert sum(counts.pass_requests.counts) == 1 + score.passes
    assert sum(counts.queue_s.counts) == sum(counts.compute_s.counts) == 2
    assert counts.device == "cpu"


def test_an_idle_engine_is_never_silent() -> None:
    clock = Clock()
    with gated(clock=clock) as (engine, _, gate):
        gate.opened.set()
        scored(submit(engine, token_run(1), ITEMS))
    clock.now_s = 1000.0
    assert engine.counts().silent_s == 0.0
    assert engine.counts().queue == Queue(0, 0, 0)


def test_failed_passes_are_counted_apart() -> None:
    with gated(after=refuse_poison) as (engine, _, gate):
        bad = submit(engine, token_run(), [token_run(POISON)])
        gate.opened.set()
        wait([bad], WAIT_S)
        assert isinstance(bad.exception(), BackendError)
        assert engine.counts().failed_passes == 1
        assert engine.counts().stages["score"].passes == 1
