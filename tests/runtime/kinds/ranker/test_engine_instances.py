"""Passes beside each other: as exact as one by one, begun when there is room, ended as they end, none of it twice."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import BackendError, DeadlineExceeded, Unavailable
from rankport.runtime.backends.contract import DeviceLost, PrefixBatch
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.scheduling.prefix_cache import PrefixCache
from rankport.runtime.tokens import TokenRun
from support.effort import scale
from support.engines import ITEMS, POISON, WAIT_S, Clock, expected, refuse_poison, running, scored
from support.mixes import Plan, check_outcome, configs, plans
from support.reference_backend import KV_BYTES, ReferenceBackend, submit, token_run

HELD, OTHER = 41, 42
TWO = EngineConfig(instances=2, max_batch_tokens=3, max_padding_ratio=1.0)


@dataclass(eq=False)
class Holding(ReferenceBackend):
    """Holds every pass that has the token HELD, in its items or the prefix that it computes, until let go."""

    side_by_side: bool = True
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.before_pass = self.hold

    def hold(self, kind: str, batch: PrefixBatch) -> None:
        if HELD in batch.runs.ids:
            self.reached.set()
            assert self.opened.wait(WAIT_S)

    def wait_for(self, passes: int) -> None:
        """Waits until so many instances had a pass."""
        until_s = time.monotonic() + WAIT_S
        while len(self.threads) < passes:
            assert time.monotonic() < until_s
            time.sleep(0.001)


@contextmanager
def holding(backend: Holding, config: EngineConfig = TWO, **options: object) -> Iterator[Engine]:
    """An engine of several instances, let go of at the end."""
    with running(backend, config, **options) as engine:
        try:
            yield engine
        finally:
            backend.opened.set()


class CheckedCache(PrefixCache):
    """Asserts that its books are right after each step."""

    def extend(self, *given: object) -> int:  # type: ignore[override]
        matched = super().extend(*given)  # type: ignore[arg-type]
        self.check_integrity()
        return matched

    def insert(self, *given: object) -> None:  # type: ignore[override]
        super().insert(*given)  # type: ignore[arg-type]
        self.check_integrity()

    def release(self, *given: object) -> None:  # type: ignore[override]
        super().release(*given)  # type: ignore[arg-type]
        self.check_integrity()


several = st.builds(
    lambda config, instances: EngineConfig(
        instances=instances,
        max_batch_tokens=config.max_batch_tokens,
        max_prefill_tokens=config.max_prefill_tokens,
        max_padding_ratio=config.max_padding_ratio,
        prefix_cache_bytes=config.prefix_cache_bytes,
        max_active_requests=config.max_active_requests,
    ),
    configs,
    st.integers(2, 4),
)


@settings(max_examples=scale(80))
@given(st.lists(plans, min_size=1, max_size=12), several)
def test_any_mix_of_requests_is_exact_and_fails_only_the_guilty(
    mix: list[Plan], config: EngineConfig
) -> None:
    clock = Clock()
    backend = ReferenceBackend(before_pass=refuse_poison, side_by_side=True)
    with running(backend, config, clock=clock, new_cache=CheckedCache) as engine:
        futures = []
        for plan in mix:
            items = [token_run(*item) for item in plan.items]
            spent_s = 2.0 if plan.expired else 0.0
            future = submit(engine, token_run(*plan.prefix), items, timeout_s=1.0, spent_s=spent_s)
            # Whenever it comes, in a queue or under way: it was in time or too late.
            assert not plan.cancelled or future.cancel() or future.done()
            futures.append(future)
        for plan, future in zip(mix, futures, strict=True):
            was_answered = plan.cancelled and not future.cancelled()
            check_outcome(
                backend, Plan(plan.prefix, plan.items, False, plan.expired) if was_answered else plan, future
            )
        last = scored(submit(engine, token_run(), [token_run(0)]))
        assert np.isfinite(last.logits).all(), "the engine goes on"
    assert max(backend.tokens("score")) <= max(config.max_batch_tokens, 5)
    assert max(backend.tokens("prefill"), default=0) <= config.max_prefill_tokens
    assert backend.closed


def test_threads_that_submit_and_cancel_at_once_get_their_own_scores() -> None:
    backend = ReferenceBackend(side_by_side=True)
    config = EngineConfig(
        instances=3,
        max_batch_tokens=6,
        max_prefill_tokens=4,
        prefix_cache_bytes=9 * KV_BYTES,
        max_active_requests=5,
    )
    failures: list[BaseException] = []

    def ask(seed: int) -> None:
        draw = np.random.default_rng(seed)
        try:
            for _ in range(40):
                prefix = token_run(*draw.integers(1, 3, draw.integers(0, 8)).tolist())
                items = [
                    token_run(*draw.integers(0, 40, draw.integers(1, 4)).tolist())
                    for _ in range(draw.integers(1, 9))
                ]
                future = submit(engine, prefix, items)
                if draw.random() < 0.3 and future.cancel():
                    continue
                result = scored(future)
                np.testing.assert_allclose(result.logits, expected(backend, prefix, items), atol=1e-6)
                assert result.prefix_tokens_cached + result.prefix_tokens_computed == len(prefix.ids)
        except BaseException as error:
            failures.append(error)

    with running(backend, config, new_cache=CheckedCache) as engine:
        askers = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(WAIT_S)
    assert not failures, failures
    assert backend.closed


def test_as_many_passes_run_at_once_as_there_are_instances() -> None:
    together = threading.Barrier(3)
    backend = ReferenceBackend(before_pass=lambda kind, batch: together.wait(WAIT_S) and None)
    with running(backend, EngineConfig(instances=3, max_batch_tokens=1, max_padding_ratio=1.0)) as engine:
        futures = [submit(engine, token_run(), [token_run(first)]) for first in range(6)]
        for future in futures:
            scored(future)
    assert len(backend.passes) == 6, "each needs two others to go on"


def test_a_pass_begins_and_ends_while_another_goes_on() -> None:
    backend = Holding()
    with holding(backend) as engine:
        slow = submit(engine, token_run(), [token_run(HELD)])
        assert backend.reached.wait(WAIT_S)
        for first in (1, 2):
            logits = scored(submit(engine, token_run(first), ITEMS[:1])).logits
            np.testing.assert_allclose(logits, expected(backend, token_run(first), ITEMS[:1]), atol=1e-6)
        assert not slow.done()
        backend.opened.set()
        scored(slow)


def test_a_lone_request_is_spread_over_all_that_have_nothing_to_do() -> None:
    backend, clock = Holding(), Clock()
    items = [token_run(HELD), *(token_run(1 + i % 40) for i in range(298)), token_run(HELD)]
    with holding(backend, EngineConfig(instances=2), clock=clock) as engine:
        future = submit(engine, token_run(), items)
        backend.wait_for(passes=2)
        clock.now_s = 7.0
        backend.opened.set()
        result = scored(future)
    np.testing.assert_allclose(result.logits, expected(backend, token_run(), items), atol=1e-6)
    assert backend.tokens("score") == [150, 150]
    assert (result.queue_s, result.compute_s) == (0.0, 7.0), "both at the same time"


def test_passes_of_one_request_that_end_out_of_order_give_its_order() -> None:
    backend = Holding()
    items = [token_run(HELD), *(token_run(1 + i % 40) for i in range(20))]
    later = threading.Event()

    def hold(kind: str, batch: PrefixBatch) -> None:
        if len(backend.passes) == 5:
            later.set()
        backend.hold(kind, batch)

    backend.before_pass = hold
    with holding(backend) as engine:
        future = submit(engine, token_run(1, 2), items)
        assert backend.reached.wait(WAIT_S)
        assert later.wait(WAIT_S), "others of it go on"
        backend.opened.set()
        np.testing.assert_allclose(
            scored(future).logits, expected(backend, token_run(1, 2), items), atol=1e-6
        )


def test_equal_prefixes_are_computed_once_and_others_meanwhile() -> None:
    backend = Holding()
    prefix = token_run(HELD, 2, 3)
    with holding(backend, EngineConfig(instances=3)) as engine:
        first = submit(engine, prefix, ITEMS)
        assert backend.reached.wait(WAIT_S)
        second = submit(engine, prefix, ITEMS)
        scored(submit(engine, token_run(OTHER), ITEMS))
        assert not second.done()
        backend.opened.set()
        assert scored(first).prefix_tokens_computed == 3
        assert scored(second).prefix_tokens_cached == 3
    assert sorted(backend.tokens("prefill")) == [1, 3]


def test_who_waits_for_a_prefix_that_fails_under_way_computes_it() -> None:
    failures = iter([True, False])
    backend = Holding()

    def fail_once(kind: str, batch: PrefixBatch) -> None:
        backend.hold(kind, batch)
        if kind == "prefill" and next(failures):
            raise OSError("the device hiccups")

    backend.before_pass = fail_once
    with holding(backend) as engine:
        first = submit(engine, token_run(HELD, 2), ITEMS)
        assert backend.reached.wait(WAIT_S)
        second = submit(engine, token_run(HELD, 2), ITEMS)
        backend.opened.set()
        with pytest.raises(BackendError, match="hiccups"):
            scored(first)
        assert scored(second).prefix_tokens_computed == 2


@pytest.mark.parametrize("poisoned", ["prefix", "item"])
def test_a_joint_pass_that_fails_under_way_is_repeated_for_each(poisoned: str) -> None:
    backend, refused = Holding(), list[int]()

    def refuse(kind: str, batch: PrefixBatch) -> None:
        backend.hold(kind, batch)
        if POISON in batch.runs.ids:
            refused.append(len(batch.prefixes))
        refuse_poison(kind, batch)

    backend.before_pass = refuse
    prefixes = [token_run(first, 1) for first in (2, 3)]
    bad = token_run(POISON, 1), ITEMS
    if poisoned == "item":
        bad = token_run(4, 1), [token_run(POISON), *ITEMS[1:]]
    with holding(backend, EngineConfig(instances=2, max_padding_ratio=4.0)) as engine:
        # Both instances are held, so that what follows shares passes.
        held = [submit(engine, token_run(), [token_run(HELD)] * 2048) for _ in range(2)]
        backend.wait_for(passes=2)
        good = [submit(engine, prefix, ITEMS) for prefix in prefixes]
        failing = submit(engine, *bad)
        backend.opened.set()
        for prefix, future in zip(prefixes, good, strict=True):
            np.testing.assert_allclose(scored(future).logits, expected(backend, prefix, ITEMS), atol=1e-6)
        with pytest.raises(BackendError, match="a poisoned token") as caught:
            scored(failing)
        assert isinstance(caught.value.__cause__, ValueError)
        for future in held:
            scored(future)
    assert (len(refused), refused[0] > 1, refused[1]) == (2, True, 1)


def test_what_a_pass_under_way_reads_stays_though_its_request_was_cancelled() -> None:
    backend = Holding()
    config = EngineConfig(instances=2, max_prefill_tokens=2, prefix_cache_bytes=4 * KV_BYTES)
    with holding(backend, config, new_cache=CheckedCache) as engine:
        reading = submit(engine, token_run(1, 2, HELD, 3), ITEMS)  # in chunks: the first is there
        assert backend.reached.wait(WAIT_S)
        assert reading.cancel()
        for first in (4, 5):
            scored(submit(engine, token_run(first, first, first), ITEMS))
        assert engine.cache_stats().nodes >= 1
        assert engine.cache_stats().evictions <= 1, "of those two, which read no more"
        backend.opened.set()
        assert scored(submit(engine, token_run(1, 2), ITEMS)).prefix_tokens_cached == 2


def test_a_request_whose_time_ran_out_has_no_further_pass() -> None:
    backend, clock = Holding(), Clock()
    with holding(backend, clock=clock) as engine:
        future = submit(engine, token_run(), [token_run(HELD)] * 30, timeout_s=1.0)
        backend.wait_for(passes=2)
        clock.now_s = 2.0
        backend.opened.set()
        with pytest.raises(DeadlineExceeded, match=r"after .* of computing"):
            scored(future)
    assert len(backend.tokens("score")) == 2, "those that were under way"


def test_a_close_waits_for_passes_under_way_and_answers_whom_they_complete() -> None:
    backend = Holding()
    engine = Engine(backend, TWO)
    futures = [submit(engine, token_run(), [token_run(HELD)] * 3) for _ in range(3)]
    while engine.counts().queue.waiting_requests > 1:
        time.sleep(0.001)
    engine.stop()
    backend.opened.set()
    engine.close()
    assert np.isfinite(scored(futures[0]).logits).all()
    assert np.isfinite(scored(futures[1]).logits).all()
    with pytest.raises(Unavailable, match="closed before"):
        scored(futures[2])
    assert backend.closed


def test_a_lost_device_ends_the_engine_once_the_other_pass_has_ended() -> None:
    backend = Holding()

    def lose(kind: str, batch: PrefixBatch) -> None:
        backend.hold(kind, batch)
        if OTHER in batch.runs.ids:
            raise DeviceLost("the weights were written over")

    backend.before_pass = lose
    engine = Engine(backend, TWO)
    held = submit(engine, token_run(), [token_run(HELD)])
    assert backend.reached.wait(WAIT_S)
    for future in (submit(engine, token_run(), [token_run(OTHER)]), held):
        with pytest.raises(Unavailable, match="lost its device: the weights were written over"):
            scored(future)
    assert not engine.alive
    assert engine.counts().stopped
    assert not backend.closed, "a pass reads it"
    backend.opened.set()
    engine.close()
    assert backend.closed


def test_a_stuck_pass_is_seen_though_the_others_go_on() -> None:
    backend, clock = Holding(), Clock()
    with holding(backend, clock=clock) as engine:
        slow = submit(engine, token_run(), [token_run(HELD)])
        assert backend.reached.wait(WAIT_S)
        clock.now_s = 70.0
        scored(submit(engine, token_run(), [token_run(1)]))
        counts = engine.counts()
        assert counts.silent_s == 70.0
        assert counts.doing == "a score pass of 1 run, 1 token of 1 request"
        assert counts.busy_s == 70.0
        backend.opened.set()
        scored(slow)
    assert engine.counts().silent_s == 0.0


def test_a_step_waits_for_the_passes_under_way_and_the_next_ones_for_it() -> None:
    backend = Holding()
    with holding(backend) as engine:
        slow = submit(engine, token_run(), [token_run(HELD)])
        assert backend.reached.wait(WAIT_S)
        seen: list[int] = []
        step = engine.call(lambda: seen.append(len(backend.passes)))
        behind = submit(engine, token_run(), [token_run(1)])
        backend.opened.set()
        step.result(WAIT_S)
        assert seen == [1]
        scored(slow)
        scored(behind)


def test_passes_are_counted_as_one_by_one() -> None:
    def counts(config: EngineConfig) -> tuple[object, ...]:
        with running(ReferenceBackend(side_by_side=True), config) as engine:
            futures: list[Future[object]] = []
            for first in range(6):
                prefix: TokenRun = token_run(first // 2, 1, 2)
                futures.append(submit(engine, prefix, ITEMS))
                scored(futures[-1])
            made = engine.counts()
            return dict(made.stages), made.queue, made.failed_passes, engine.cache_stats()

    assert counts(EngineConfig(instances=3)) == counts(EngineConfig())
