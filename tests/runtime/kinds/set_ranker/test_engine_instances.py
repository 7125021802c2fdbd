"""Passes of a ranker of sets beside each other: as exact as one by one, no history computed twice, nothing lost."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import BackendError, DeadlineExceeded
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.set_ranker.engine import SetLogits
from support.effort import scale
from support.engines import POISON, WAIT_S, Clock
from support.sets.engines import HELD, TWO, Holding, answered, holding, running
from support.sets.reference import EVENT_BYTES, MASKS, TOP, ReferenceSetBackend, full, submit

OTHER = 42


def refuse_poison(kind: str, numbers: Sequence[int]) -> None:
    if POISON in numbers:
        raise ValueError("a poisoned number")


@dataclass(frozen=True)
class Plan:
    """One request of a mix."""

    events: list[int]
    candidates: list[int]
    cancelled: bool
    expired: bool


plans = st.builds(
    Plan,
    # Two numbers only: histories share, extend and split one another all the time.
    events=st.lists(st.sampled_from([1, 2]), max_size=10)
    | st.lists(st.sampled_from([1, 2, POISON]), max_size=6),
    candidates=st.lists(st.integers(0, 40), min_size=1, max_size=6) | st.just([3, POISON]),
    cancelled=st.booleans(),
    expired=st.sampled_from([False, False, True]),
)
configs = st.builds(
    EngineConfig,
    instances=st.integers(1, 4),
    max_prefill_tokens=st.integers(1, 8),
    prefix_cache_bytes=st.integers(0, 16).map(lambda events: events * EVENT_BYTES),
    max_active_requests=st.integers(1, 8),
)


@settings(max_examples=scale(80))
@given(st.lists(plans, min_size=1, max_size=12), configs, st.sampled_from(sorted(MASKS)))
def test_any_mix_of_requests_is_exact_and_fails_only_the_guilty(
    mix: list[Plan], config: EngineConfig, policy: str
) -> None:
    backend = ReferenceSetBackend(before_call=refuse_poison)
    with running(backend, config, policy, clock=Clock()) as engine:
        futures = []
        for plan in mix:
            spent_s = 2.0 if plan.expired else 0.0
            futures.append(submit(engine, plan.events, plan.candidates, timeout_s=1.0, spent_s=spent_s))
            # Whenever it comes, in a queue or under way: it was in time or too late.
            assert not plan.cancelled or futures[-1].cancel() or futures[-1].done()
        for plan, future in zip(mix, futures, strict=True):
            check_outcome(policy, replace(plan, cancelled=future.cancelled()), future)
        assert len(answered(submit(engine, [], [0])).logits) == 1, "the engine goes on"
        assert engine.cache_stats().bytes <= config.prefix_cache_bytes
    assert all(len(events) <= config.max_prefill_tokens for events in backend.numbers("history"))
    assert backend.closed


def check_outcome(policy: str, plan: Plan, future: "Future[SetLogits]") -> None:
    if plan.cancelled:
        assert wait([future], WAIT_S).done
    elif plan.expired:
        with pytest.raises(DeadlineExceeded, match=r"timeout_s=1.0"):
            answered(future)
    elif POISON in plan.events or POISON in plan.candidates:
        with pytest.raises(BackendError, match="ValueError: a poisoned number"):
            answered(future)
    else:
        result = answered(future)
        np.testing.assert_allclose(result.logits, full(policy, plan.events, plan.candidates), atol=1e-6)
        assert 0 <= result.cached <= len(plan.events)
        assert (result.again is not None) == (policy == "top")
        if result.again is not None:
            assert result.again.tolist() == sorted({*result.again.tolist()})
            assert len(result.again) == min(TOP, len(plan.candidates))


def test_threads_that_submit_and_cancel_at_once_get_their_own_logits() -> None:
    config = EngineConfig(
        instances=3, max_prefill_tokens=3, prefix_cache_bytes=9 * EVENT_BYTES, max_active_requests=5
    )
    failures: list[BaseException] = []

    def ask(seed: int) -> None:
        draw = np.random.default_rng(seed)
        try:
            for _ in range(40):
                events = draw.integers(1, 3, draw.integers(0, 8)).tolist()
                candidates = draw.integers(0, 40, draw.integers(1, 9)).tolist()
                future = submit(engine, events, candidates)
                if draw.random() < 0.3 and future.cancel():
                    continue
                logits = answered(future).logits
                np.testing.assert_allclose(logits, full("top", events, candidates), atol=1e-6)
        except BaseException as error:
            failures.append(error)

    with running(ReferenceSetBackend(), config, "top") as engine:
        askers = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(WAIT_S)
    assert not failures, failures


def test_as_many_passes_run_at_once_as_there_are_instances() -> None:
    together = threading.Barrier(3)
    backend = ReferenceSetBackend(before_call=lambda kind, numbers: together.wait(WAIT_S) and None)
    with running(backend, EngineConfig(instances=3)) as engine:
        for future in [submit(engine, [], [first]) for first in range(6)]:
            answered(future)
    assert len(backend.calls) == 6, "each needs two others to go on"
    assert len(backend.threads) == 3


def test_a_request_is_answered_while_another_is_under_way() -> None:
    backend = Holding()
    with holding(backend) as engine:
        slow = submit(engine, [1, 2], [HELD])
        assert backend.reached.wait(WAIT_S)
        for first in (1, 2):
            logits = answered(submit(engine, [first], [5, 6])).logits
            np.testing.assert_allclose(logits, full("set-wise", [first], [5, 6]), atol=1e-6)
        assert not slow.done()
        backend.opened.set()
        answered(slow)


def test_equal_histories_are_computed_once_and_others_meanwhile() -> None:
    backend = Holding()
    with holding(backend, EngineConfig(instances=3, max_prefill_tokens=2)) as engine:
        first = submit(engine, [1, 2, HELD, 3], [7])
        assert backend.reached.wait(WAIT_S)
        same = submit(engine, [1, 2, HELD, 3], [8, 9])
        longer = submit(engine, [1, 2, HELD, 3, 4, 5], [8])
        answered(submit(engine, [OTHER, 2], [7]))
        answered(submit(engine, [1, 2, 9], [7]))
        assert backend.numbers("history") == [[1, 2], [OTHER, 2], [9]]
        assert not same.done()
        assert not longer.done()
        backend.opened.set()
        assert [answered(future).cached for future in (first, same, longer)] == [0, 4, 4]
        expected = full("set-wise", [1, 2, HELD, 3], [8, 9])
        np.testing.assert_allclose(answered(same).logits, expected, atol=1e-6)
    assert backend.numbers("history")[3:] == [[HELD, 3], [4, 5]]


def test_a_history_that_is_there_is_read_by_several_at_once() -> None:
    backend = Holding()
    with holding(backend) as engine:
        answered(submit(engine, [1, 2, 3], [4]))
        slow = submit(engine, [1, 2, 3], [HELD])
        assert backend.reached.wait(WAIT_S)
        assert answered(submit(engine, [1, 2, 3], [5])).cached == 3
        assert not slow.done()
        backend.opened.set()
        assert answered(slow).cached == 3


@pytest.mark.parametrize(
    ("policy", "passes"), [("independent", [150, 150]), ("set-wise", [300]), ("top", [300, TOP])]
)
def test_candidates_of_a_lone_request_are_spread_where_they_do_not_see_each_other(
    policy: str, passes: list[int]
) -> None:
    backend = Holding()
    ranked = [HELD, *(1 + i % 40 for i in range(298)), HELD]
    with holding(backend, policy=policy) as engine:
        future = submit(engine, [1, 2, 3], ranked)
        assert backend.reached.wait(WAIT_S)
        if policy == "independent":
            backend.wait_for(calls=4)  # two of the history
        backend.opened.set()
        np.testing.assert_allclose(answered(future).logits, full(policy, [1, 2, 3], ranked), atol=1e-6)
    assert list(map(len, backend.numbers("rank"))) == passes


def test_a_part_that_fails_fails_the_request_once_the_other_has_ended() -> None:
    backend = Holding()

    def refuse(kind: str, numbers: list[int]) -> None:
        refuse_poison(kind, numbers)
        backend.hold(kind, numbers)

    backend.before_call = refuse
    with holding(backend, policy="independent") as engine:
        guilty = submit(engine, [1], [HELD] * 200 + [POISON])
        with pytest.raises(BackendError, match="ValueError: a poisoned number"):
            answered(guilty)
        backend.opened.set()
        assert answered(submit(engine, [1], [3])).cached == 1


def test_requests_are_counted_as_one_by_one() -> None:
    def counts(config: EngineConfig) -> tuple[object, ...]:
        with running(ReferenceSetBackend(), config) as engine:
            for first in range(6):
                answered(submit(engine, [first // 2, 1, 2][: 2 + first % 2], [3, 4]))
            made = engine.counts()
            return dict(made.stages), made.queue, made.failed_passes, engine.cache_stats()

    assert counts(TWO) == counts(replace(TWO, instances=1))
