"""The engine: prefix + items ≡ full sequence in any mix, and every request is answered whatever fails."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import (
    BackendError,
    DeadlineExceeded,
    InvalidRequest,
    LimitExceeded,
    Overloaded,
    Unavailable,
)
from rankport.runtime.backends.contract import DeviceLost, PrefixBatch
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.ranker.engine import Engine, Scored, prefix_key
from rankport.runtime.tokens import EMBEDDED, TokenRun
from support.reference_backend import HIDDEN, KV_BYTES, LABELS, ReferenceBackend, submit, token_run

WAIT_S = 30.0  # never reached; a hang becomes a failure
POISON = 49


@dataclass
class Gate:
    """Holds the engine in a pass until opened, so that what is submitted meanwhile meets in the queue."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def __call__(self, kind: str, batch: PrefixBatch) -> None:
        self.reached.set()
        assert self.opened.wait(WAIT_S)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def running(backend: ReferenceBackend, config: EngineConfig = DEFAULTS, **kwargs: Clock) -> Iterator[Engine]:
    engine = Engine(backend, config, **kwargs)
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def gated(
    config: EngineConfig = DEFAULTS,
    after: Callable[[str, PrefixBatch], None] | None = None,
    **kwargs: Clock,
) -> Iterator[tuple[Engine, ReferenceBackend, Gate]]:
    """An engine held in the pass of a first, plain request; `after` is called in every later pass."""
    gate = Gate()
    backend = ReferenceBackend()

    def before_pass(kind: str, batch: PrefixBatch) -> None:
        gate(kind, batch)
        if after is not None and len(backend.passes) > 0:
            after(kind, batch)

    backend.before_pass = before_pass
    with running(backend, config, **kwargs) as engine:
        submit(engine, token_run(), [token_run(0)])
        assert gate.reached.wait(WAIT_S)
        try:
            yield engine, backend, gate
        finally:
            gate.opened.set()


def refuse_poison(kind: str, batch: PrefixBatch) -> None:
    if POISON in batch.runs.ids:
        raise ValueError("a poisoned token")


def expected(backend: ReferenceBackend, prefix: TokenRun, items: list[TokenRun]) -> np.ndarray:
    return np.stack([backend.model.full_sequence(prefix, item) for item in items])


def scored(future: "Future[Scored]") -> Scored:
    return future.result(WAIT_S)


ITEMS = [token_run(7), token_run(8, 9, 10), token_run(11, 12)]


# exactness


def test_prefix_and_items_equal_the_full_sequence() -> None:
    backend = ReferenceBackend()
    prefix = token_run(1, 2, 3)
    with running(backend) as engine:
        result = scored(submit(engine, prefix, ITEMS))
    np.testing.assert_allclose(result.logits, expected(backend, prefix, ITEMS), atol=1e-6)
    assert result.logits.dtype == np.float32
    assert not result.failed.any()
    assert (result.prefix_tokens_cached, result.prefix_tokens_computed) == (0, 3)


def test_embeddings_in_prefix_and_items_equal_the_full_sequence() -> None:
    rows = np.random.default_rng(1).normal(size=(4, HIDDEN)).astype(np.float32)
    ids = np.array([1, EMBEDDED, 2, EMBEDDED, EMBEDDED], np.int64)
    prefix = TokenRun(ids, rows[:3])
    same_ids = TokenRun(ids, rows[1:])
    items = [TokenRun(np.array([EMBEDDED, 3], np.int64), rows[3:]), token_run(4)]
    backend = ReferenceBackend()
    with running(backend, EngineConfig(max_prefill_tokens=2)) as engine:
        for one in (prefix, same_ids):
            result = scored(submit(engine, one, items))
            np.testing.assert_allclose(result.logits, expected(backend, one, items), atol=1e-6)
        assert result.prefix_tokens_cached == 1, "equal ids over other embeddings are another prefix"


def test_prefix_keys_tell_embeddings_apart_and_are_negative() -> None:
    rows = np.array([[1, 2], [1, 3], [1, 2]], np.float32)
    key = prefix_key(TokenRun(np.array([5, EMBEDDED, EMBEDDED, EMBEDDED], np.int64), rows))
    assert key[0] == 5
    assert key[1] == key[3] != key[2]
    assert (key[1:] < EMBEDDED).all()


@dataclass(frozen=True)
class Plan:
    prefix: tuple[int, ...]
    items: tuple[tuple[int, ...], ...]
    cancelled: bool
    expired: bool


ordinary = st.integers(0, 40)
plans = st.builds(
    Plan,
    # Two tokens only: prefixes share, extend and split one another all the time.
    prefix=st.lists(st.sampled_from([1, 2]), max_size=10).map(tuple)
    | st.lists(st.sampled_from([1, 2, POISON]), max_size=6).map(tuple),
    items=st.lists(
        st.lists(ordinary, min_size=1, max_size=5).map(tuple) | st.sampled_from([(3, POISON)]),
        min_size=1,
        max_size=6,
    ).map(tuple),
    cancelled=st.booleans(),
    expired=st.sampled_from([False, False, True]),
)
configs = st.builds(
    EngineConfig,
    max_batch_tokens=st.integers(1, 20),
    max_prefill_tokens=st.integers(1, 8),
    max_padding_ratio=st.floats(1.0, 4.0),
    prefix_cache_bytes=st.integers(0, 16).map(lambda tokens: tokens * KV_BYTES),
    max_active_requests=st.integers(1, 8),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(plans, min_size=1, max_size=8), configs)
def test_any_mix_of_requests_is_exact_and_fails_only_the_guilty(
    mix: list[Plan], config: EngineConfig
) -> None:
    def in_every_pass(kind: str, batch: PrefixBatch) -> None:
        engine._work.cache.check_integrity()
        refuse_poison(kind, batch)

    clock = Clock()
    with gated(config, in_every_pass, clock=clock) as (engine, backend, gate):
        futures = [
            submit(
                engine,
                token_run(*plan.prefix),
                [token_run(*item) for item in plan.items],
                timeout_s=1.0 if plan.expired else None,
            )
            for plan in mix
        ]
        clock.now_s = 2.0
        for plan, future in zip(mix, futures, strict=True):
            assert not plan.cancelled or future.cancel()
        gate.opened.set()
        for plan, future in zip(mix, futures, strict=True):
            check_outcome(backend, plan, future)
        last = scored(submit(engine, token_run(), [token_run(0)]))
        assert np.isfinite(last.logits).all(), "the engine goes on"
    assert len(backend.threads) == 1
    assert max(backend.tokens("score")) <= max(config.max_batch_tokens, 5)
    assert max(backend.tokens("prefill"), default=0) <= config.max_prefill_tokens
    assert backend.closed


def check_outcome(backend: ReferenceBackend, plan: Plan, future: "Future[Scored]") -> None:
    if plan.cancelled:
        assert wait([future], WAIT_S).done
        assert future.cancelled()
    elif plan.expired:
        with pytest.raises(DeadlineExceeded, match=r"timeout_s=1.0"):
            scored(future)
    elif POISON in plan.prefix or any(POISON in item for item in plan.items):
        with pytest.raises(BackendError, match="ValueError: a poisoned token"):
            scored(future)
    else:
        result = scored(future)
        items = [token_run(*item) for item in plan.items]
        np.testing.assert_allclose(
            result.logits, expected(backend, token_run(*plan.prefix), items), atol=1e-6
        )
        assert result.prefix_tokens_cached + result.prefix_tokens_computed == len(plan.prefix)


# batching


def test_a_prefix_is_computed_once_for_all_its_requests() -> None:
    with gated() as (engine, backend, gate):
        futures = [submit(engine, token_run(1, 2, 3), ITEMS) for _ in range(4)]
        gate.opened.set()
        usage = [(scored(one).prefix_tokens_cached, scored(one).prefix_tokens_computed) for one in futures]
    assert usage == [(0, 3), (3, 0), (3, 0), (3, 0)]
    assert backend.tokens("prefill") == [3]


def test_a_cached_prefix_needs_no_prefill_and_a_longer_one_only_its_rest() -> None:
    backend = ReferenceBackend()
    with running(backend) as engine:
        for prefix in ((1, 2, 3), (1, 2, 3), (1, 2, 3, 4, 5), (1, 2, 9)):
            scored(submit(engine, token_run(*prefix), ITEMS))
        assert engine.cache_stats().tokens_reused == 3 + 3 + 2
    assert backend.tokens("prefill") == [3, 2, 1]


def test_requests_with_different_prefixes_share_passes() -> None:
    with gated() as (engine, backend, gate):
        futures = [submit(engine, token_run(first, 1, 2), ITEMS) for first in (3, 4, 5)]
        gate.opened.set()
        for future in futures:
            scored(future)
    kinds = [(kind, len(batch.prefixes), len(batch.runs)) for kind, batch in backend.passes[1:]]
    assert kinds == [("prefill", 3, 3), ("score", 3, 9)]


def test_ten_thousand_items_go_in_bounded_passes() -> None:
    backend = ReferenceBackend()
    items = [token_run(index % 40) for index in range(10_000)]
    with running(backend, EngineConfig(max_batch_tokens=512)) as engine:
        result = scored(submit(engine, token_run(1, 2), items))
    by_token = expected(backend, token_run(1, 2), items[:40])
    np.testing.assert_allclose(result.logits, np.tile(by_token, (250, 1)), atol=1e-6)
    assert max(backend.tokens("score")) == 512
    assert len(backend.tokens("score")) == 20


def test_a_small_request_is_answered_in_the_middle_of_a_large_one() -> None:
    with gated(EngineConfig(max_batch_tokens=10)) as (engine, backend, gate):
        large = submit(engine, token_run(1), [token_run(2)] * 500)
        small = submit(engine, token_run(3), [token_run(4)] * 3)
        done_at: dict[str, int] = {}
        large.add_done_callback(lambda _: done_at.setdefault("large", len(backend.passes)))
        small.add_done_callback(lambda _: done_at.setdefault("small", len(backend.passes)))
        gate.opened.set()
        wait([large, small], WAIT_S)
    assert done_at["small"] <= 5
    assert done_at["large"] >= 50


def test_large_requests_take_turns() -> None:
    with gated(EngineConfig(max_batch_tokens=10)) as (engine, backend, gate):
        futures = [submit(engine, token_run(first), [token_run(2)] * 100) for first in (1, 3)]
        gate.opened.set()
        assert not wait(futures, WAIT_S).not_done
    prefixes = [batch.prefixes[0][0] for kind, batch in backend.passes[1:] if kind == "score"]
    assert len(prefixes) == 20
    assert all(one is not next_one for one, next_one in itertools.pairwise(prefixes))


def test_chunks_of_a_long_prefix_alternate_with_the_items_of_others() -> None:
    with gated(EngineConfig(max_prefill_tokens=2, max_batch_tokens=2)) as (engine, backend, gate):
        long = submit(engine, token_run(*[1] * 40), ITEMS)
        short = submit(engine, token_run(), [token_run(4)] * 10)
        passes_done: dict[str, int] = {}
        short.add_done_callback(lambda _: passes_done.setdefault("short", len(backend.passes)))
        gate.opened.set()
        assert not wait([long, short], WAIT_S).not_done
    assert passes_done["short"] <= 12
    assert len(backend.tokens("prefill")) == 20


def test_requests_of_one_prefix_share_its_row_whoever_stands_between() -> None:
    backend = ReferenceBackend()
    with running(backend, EngineConfig(max_padding_ratio=2.0)) as engine:
        for first in (1, 2):
            scored(submit(engine, token_run(first), ITEMS))
        gate = backend.before_pass = Gate()
        submit(engine, token_run(), [token_run(0)])
        assert gate.reached.wait(WAIT_S)
        prefixes = [token_run(first) for first in (1, 2, 1)]
        futures = [submit(engine, prefix, ITEMS) for prefix in prefixes]
        gate.opened.set()
        for prefix, future in zip(prefixes, futures, strict=True):
            np.testing.assert_allclose(scored(future).logits, expected(backend, prefix, ITEMS), atol=1e-6)
    _, last = backend.passes[-1]
    assert (len(last.prefixes), len(last.runs)) == (2, 9)


def test_items_come_back_in_their_own_order() -> None:
    items = [token_run(*range(1, length + 1)) for length in (5, 1, 4, 1, 3)]
    backend = ReferenceBackend()
    with running(backend, EngineConfig(max_batch_tokens=4)) as engine:
        result = scored(submit(engine, token_run(6), items))
    np.testing.assert_allclose(result.logits, expected(backend, token_run(6), items), atol=1e-6)


# failures


def test_only_the_guilty_request_of_a_pass_fails() -> None:
    with gated(after=refuse_poison) as (engine, backend, gate):
        good = [submit(engine, token_run(first, 1), ITEMS) for first in (2, 3)]
        bad = submit(engine, token_run(4, 1), [token_run(POISON), *ITEMS[1:]])
        gate.opened.set()
        for first, future in zip((2, 3), good, strict=True):
            logits = expected(backend, token_run(first, 1), ITEMS)
            np.testing.assert_allclose(scored(future).logits, logits, atol=1e-6)
        with pytest.raises(
            BackendError, match="score failed on the device: ValueError: a poisoned token"
        ) as caught:
            scored(bad)
        assert isinstance(caught.value.__cause__, ValueError)


def test_who_waits_for_a_prefix_that_fails_computes_it_again() -> None:
    failures = iter([True, False, False])

    def fail_once(kind: str, batch: PrefixBatch) -> None:
        if kind == "prefill" and next(failures):
            raise OSError("the device hiccups")

    with gated(after=fail_once) as (engine, _, gate):
        first, second = (submit(engine, token_run(1, 2), ITEMS) for _ in range(2))
        gate.opened.set()
        with pytest.raises(BackendError, match="hiccups"):
            scored(first)
        assert scored(second).prefix_tokens_computed == 2


def test_an_error_of_ours_from_the_backend_keeps_its_class() -> None:
    def refuse(kind: str, batch: PrefixBatch) -> None:
        raise LimitExceeded("prefix 9 tokens, limit 8")

    with (
        running(ReferenceBackend(before_pass=refuse)) as engine,
        pytest.raises(LimitExceeded, match="limit 8"),
    ):
        scored(submit(engine, token_run(1), ITEMS))


def test_a_backend_that_breaks_its_contract_fails_the_request() -> None:
    class Forgetful(ReferenceBackend):
        def score(self, batch: PrefixBatch) -> np.ndarray:
            return super().score(batch)[:-1]

    with running(Forgetful()) as engine, pytest.raises(BackendError, match="2 results for 3 runs"):
        scored(submit(engine, token_run(1), ITEMS))


def test_logits_that_are_not_finite_fail_their_item_only() -> None:
    class Overflowing(ReferenceBackend):
        def score(self, batch: PrefixBatch) -> np.ndarray:
            logits = super().score(batch)
            logits[[7 in run.ids for run in batch.runs], 1] = np.inf
            return logits

    with running(Overflowing()) as engine:
        result = scored(submit(engine, token_run(1), ITEMS))
    assert result.failed.tolist() == [True, False, False]
    assert np.isnan(result.logits[0]).all()
    assert np.isfinite(result.logits[1:]).all()


def test_a_bug_in_the_engine_answers_everyone_and_refuses_the_next() -> None:
    with gated() as (engine, backend, gate):
        futures = [submit(engine, token_run(first), ITEMS) for first in (1, 2)]
        engine._work.cache.insert = None  # type: ignore[assignment, method-assign]
        gate.opened.set()
        for future in futures:
            with pytest.raises(Unavailable, match="TypeError"):
                scored(future)
        with pytest.raises(Unavailable, match="TypeError"):
            submit(engine, token_run(1), ITEMS)
    assert backend.closed


def test_requests_without_items_or_tokens_are_refused() -> None:
    with running(ReferenceBackend()) as engine:
        with pytest.raises(InvalidRequest, match="without items"):
            submit(engine, token_run(1), [])
        with pytest.raises(InvalidRequest, match="item 1 has no tokens"):
            submit(engine, token_run(1), [token_run(1), token_run()])


# queue, deadlines, cancellation


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


# closing


def close_when_gated(engine: Engine, gate: Gate, grace_s: float) -> None:
    closing = threading.Thread(target=engine.close, args=(grace_s,))
    closing.start()
    while True:  # until the engine refuses, the close has not begun
        try:
            submit(engine, token_run(1), ITEMS).cancel()
        except Unavailable:
            break
    gate.opened.set()
    closing.join(WAIT_S)
    assert not closing.is_alive()


def test_close_fails_what_waits_and_frees_the_backend() -> None:
    with gated(EngineConfig(max_queued_requests=10**9)) as (engine, backend, gate):
        future = submit(engine, token_run(1), ITEMS)
        close_when_gated(engine, gate, grace_s=0.0)
        with pytest.raises(Unavailable, match="closed before"):
            scored(future)
        assert backend.closed
        with pytest.raises(Unavailable, match="closed"):
            submit(engine, token_run(1), ITEMS)
        engine.close()


def test_close_with_grace_answers_what_waits() -> None:
    with gated(EngineConfig(max_queued_requests=10**9)) as (engine, backend, gate):
        futures = [submit(engine, token_run(first), ITEMS) for first in (1, 2)]
        close_when_gated(engine, gate, grace_s=1000.0)
        for future in futures:
            assert np.isfinite(scored(future).logits).all()
        assert backend.closed


def test_a_second_close_cuts_the_grace_of_the_first() -> None:
    gate = Gate()
    engine = Engine(ReferenceBackend(before_pass=gate), EngineConfig(max_queued_requests=10**9))
    submit(engine, token_run(), [token_run(0)]).add_done_callback(lambda _: engine.close(0.0))
    assert gate.reached.wait(WAIT_S)
    future = submit(engine, token_run(1), ITEMS)
    close_when_gated(engine, gate, grace_s=1000.0)
    with pytest.raises(Unavailable, match="closed before"):
        scored(future)


def test_a_callback_may_close_the_engine() -> None:
    backend = ReferenceBackend()
    engine = Engine(backend)
    closed = threading.Event()

    def close(_: object) -> None:
        engine.close()
        closed.set()

    submit(engine, token_run(1), ITEMS).add_done_callback(close)
    assert closed.wait(WAIT_S)
    engine.close()
    assert backend.closed


# steps between passes


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
            with pytest.raises(Unavailable, match="the device is gone"):
                step.result(WAIT_S)
