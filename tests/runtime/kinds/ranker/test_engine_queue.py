"""The queue of the engine: limits, deadlines, cancellation and times."""

import threading
from concurrent.futures import CancelledError, wait
from contextlib import closing

import pytest

from rankport.protos.errors import (
    DeadlineExceeded,
    Overloaded,
)
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.scheduling.queue.queue_limit import QueueNumbers
from support.engines import (
    ITEMS,
    WAIT_S,
    Clock,
    Gate,
    gated,
    running,
    scored,
)
from support.reference_backend import LABELS, ReferenceBackend, submit, token_run


def test_a_full_queue_refuses_at_once_and_names_both_limits() -> None:
    with gated(EngineConfig(max_queued_requests=2)) as (engine, _, gate):
        waiting = [submit(engine, token_run(1), ITEMS) for _ in range(2)]
        message = r"2 requests \(max_queued_requests 2\) and 14 tokens \(max_queued_tokens 1000000\)"
        with pytest.raises(Overloaded, match=message):
            submit(engine, token_run(1), ITEMS)
        gate.opened.set()
        wait(waiting, WAIT_S)
        scored(submit(engine, token_run(1), ITEMS))


def test_waiting_tokens_are_limited_but_one_large_request_is_always_taken() -> None:
    with gated(EngineConfig(max_queued_tokens=10)) as (engine, _, gate):
        large = submit(engine, token_run(1), ITEMS * 3)
        with pytest.raises(Overloaded, match="19 tokens"):
            submit(engine, token_run(1), [token_run(1)])
        gate.opened.set()
        assert scored(large).logits.shape == (9, LABELS)


def test_a_cancelled_request_leaves_the_queue_before_compute() -> None:
    with gated(EngineConfig(max_queued_requests=1)) as (engine, backend, gate):
        future = submit(engine, token_run(1), ITEMS)
        assert future.cancel()
        gate.opened.set()
        assert wait([future], WAIT_S).done
        with pytest.raises(CancelledError):
            future.result()
        scored(submit(engine, token_run(2), ITEMS))
    assert all(1 not in run.ids for _, batch in backend.passes for run in batch.runs)


def test_a_request_is_cancelled_between_its_passes() -> None:
    backend = ReferenceBackend()
    started, cancelled = threading.Event(), threading.Event()

    def cancel_in_third_pass(kind: str, batch: PrefixBatch) -> None:
        if len(backend.passes) == 3:
            started.set()
            assert cancelled.wait(WAIT_S)

    backend.before_pass = cancel_in_third_pass
    with running(backend, EngineConfig(max_batch_tokens=10)) as engine:
        future = submit(engine, token_run(1), [token_run(2)] * 1000)
        assert started.wait(WAIT_S)
        assert future.cancel()
        cancelled.set()
        scored(submit(engine, token_run(3), ITEMS))
    assert len(backend.passes) <= 6


def test_no_pass_follows_the_one_in_which_a_request_was_cancelled() -> None:
    backend, asked = ReferenceBackend(), []

    def cancel_in_third_pass(kind: str, batch: PrefixBatch) -> None:
        if len(backend.passes) == 2:
            assert submitted.wait(WAIT_S)
            assert asked[0].cancel()

    submitted = threading.Event()
    backend.before_pass = cancel_in_third_pass
    with closing(Engine(backend, EngineConfig(max_batch_tokens=10))) as engine:
        asked.append(submit(engine, token_run(1), [token_run(2)] * 1000))
        submitted.set()
        engine.close(WAIT_S)  # which lets it go on, were it not cancelled
    assert [kind for kind, _ in backend.passes] == ["prefill", "score", "score"]


def test_a_deadline_ends_a_request_between_its_passes() -> None:
    clock = Clock()
    backend = ReferenceBackend()

    def take_time(kind: str, batch: PrefixBatch) -> None:
        clock.now_s += 1.0

    backend.before_pass = take_time
    with running(backend, EngineConfig(max_batch_tokens=10), clock=clock) as engine:
        future = submit(engine, token_run(1), [token_run(2)] * 1000, timeout_s=4.5)
        with pytest.raises(DeadlineExceeded, match=r"timeout_s=4.5 ran out after 5.000 s of computing"):
            scored(future)
    assert len(backend.passes) == 5


def test_times_split_into_waiting_and_computing() -> None:
    clock = Clock()

    def take_time(kind: str, batch: PrefixBatch) -> None:
        clock.now_s += 1.0

    with gated(after=take_time, clock=clock) as (engine, _, gate):
        future = submit(engine, token_run(1), ITEMS)
        clock.now_s = 5.0
        gate.opened.set()
        assert (scored(future).queue_s, scored(future).compute_s) == (5.0, 2.0)


def test_what_could_only_run_out_of_time_is_refused_at_once() -> None:
    clock, gate = Clock(), Gate()
    backend = ReferenceBackend()

    def take_time(kind: str, batch: PrefixBatch) -> None:
        clock.now_s += 1.0
        if len(backend.passes) >= 4:
            gate(kind, batch)

    backend.before_pass = take_time
    with running(backend, EngineConfig(max_batch_tokens=10), clock=clock) as engine:
        for _ in range(4):  # a pass and 5 tokens a second
            scored(submit(engine, token_run(), [token_run(1, 2, 3, 4, 5)], timeout_s=1.5))
        waiting = [submit(engine, token_run(), [token_run(1, 2, 3, 4, 5)]) for _ in range(4)]
        assert gate.reached.wait(WAIT_S)
        with pytest.raises(Overloaded, match=r"take about 5.0 s, and 4.0 s are left") as refused:
            submit(engine, token_run(), [token_run(1, 2, 3, 4, 5)], timeout_s=4.0)
        assert refused.value.retry_after_s == pytest.approx(1.75)
        patient = submit(engine, token_run(), [token_run(1, 2, 3, 4, 5)], timeout_s=60.0)
        gate.opened.set()
        for future in (*waiting, patient):
            scored(future)


def test_who_begins_to_watch_a_queue_sees_the_last_numbers_last() -> None:
    seen: list[QueueNumbers] = []
    with gated() as (engine, _, gate):
        others = threading.Thread(target=lambda: submit(engine, token_run(1), ITEMS))

        def watch(numbers: QueueNumbers) -> None:
            if not seen and others.ident is None:
                others.start()
                others.join(0.1)  # in vain, where it is held up until the first numbers were told
            seen.append(numbers)

        unwatch = engine.watch(watch)
        others.join(WAIT_S)
        assert seen[-1][:2] == (1, 7)  # a request, of 7 tokens
        unwatch()
        gate.opened.set()
