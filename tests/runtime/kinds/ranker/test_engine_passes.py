"""Passes of the engine: prefixes are computed once, passes bounded and shared, turns taken."""

import itertools
from concurrent.futures import wait

import numpy as np
import pytest

from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.config import EngineConfig
from support.engines import (
    ITEMS,
    WAIT_S,
    Clock,
    Gate,
    expected,
    gated,
    running,
    scored,
)
from support.reference_backend import ReferenceBackend, submit, token_run


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


@pytest.mark.parametrize(("pass_s", "prefixes"), [(1.0, [1, 1]), (0.0, [2])], ids=["slow", "quick"])
def test_slow_passes_are_for_one_request_that_fills_them_and_quick_ones_are_shared(
    pass_s: float, prefixes: list[int]
) -> None:
    clock, items = Clock(), [token_run(index % 40) for index in range(300)]
    with gated(clock=clock) as (engine, backend, gate):
        futures = [submit(engine, token_run(first), items) for first in (3, 4)]
        clock.now_s += pass_s
        gate.opened.set()
        for first, future in zip((3, 4), futures, strict=True):
            by_token = expected(backend, token_run(first), items[:40])
            np.testing.assert_allclose(scored(future).logits[:40], by_token, atol=1e-6)
    assert [len(batch.prefixes) for kind, batch in backend.passes[1:] if kind == "score"] == prefixes


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


def test_a_large_request_has_short_passes_while_small_ones_come_and_whole_ones_alone() -> None:
    backend, small = ReferenceBackend(), []
    items = [token_run(index % 40) for index in range(400)]
    with running(backend, EngineConfig(max_batch_tokens=100, max_bulk_tokens=10)) as engine:
        scored(submit(engine, token_run(3), ITEMS))

        def come_in_third_pass(kind: str, batch: PrefixBatch) -> None:
            if len(backend.passes) == first + 2:
                small.append((submit(engine, token_run(3), ITEMS), len(backend.passes)))
                small[0][0].add_done_callback(lambda _: small.append(len(backend.passes)))

        first = len(backend.passes)
        backend.before_pass = come_in_third_pass
        large = scored(submit(engine, token_run(1), items))
    np.testing.assert_allclose(large.logits, expected(backend, token_run(1), items), atol=1e-6)
    (future, came), done = small
    np.testing.assert_allclose(scored(future).logits, expected(backend, token_run(3), ITEMS), atol=1e-6)
    assert done == came + 2  # the pass that it came in, and its own
    tokens = backend.tokens("score")[1:]
    assert tokens[:2] == [100, 100]
    assert set(tokens[3:-1]) == {10}


def test_equal_prefixes_that_come_together_are_computed_once_chunk_by_chunk() -> None:
    with gated(EngineConfig(max_prefill_tokens=4)) as (engine, backend, gate):
        prefix = token_run(*range(1, 31))
        futures = [submit(engine, prefix, ITEMS) for _ in range(5)]
        gate.opened.set()
        results = [scored(future) for future in futures]
    assert sum(backend.tokens("prefill")) == 30
    assert sum(result.prefix_tokens_computed for result in results) == 30
    for result in results:
        np.testing.assert_allclose(result.logits, expected(backend, prefix, ITEMS), atol=1e-6)


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


def test_requests_of_one_size_and_new_prefixes_are_each_in_one_score_pass() -> None:
    config = EngineConfig(max_batch_tokens=32, max_prefill_tokens=8)
    with gated(config) as (engine, backend, gate):
        futures = [submit(engine, token_run(first, 1, 2), [token_run(4)] * 10) for first in range(3, 15)]
        gate.opened.set()
        wait(futures, WAIT_S)
    scores = [batch for kind, batch in backend.passes[1:] if kind == "score"]
    assert sum(len(batch.prefixes) for batch in scores) == 12
    assert {count for batch in scores for count in np.bincount(batch.run_prefix)} == {10}


def test_new_prefixes_wait_while_those_before_them_fill_a_pass() -> None:
    """What comes meanwhile is prefilled in one pass, not in one for each."""
    later = []

    def come_in_a_score_pass(kind: str, batch: PrefixBatch) -> None:
        if kind == "score" and len(later) < 2:
            later.append(submit(engine, token_run(20 + len(later), 1), [token_run(4)] * 10))

    config = EngineConfig(max_batch_tokens=10)
    with gated(config, come_in_a_score_pass) as (engine, backend, gate):
        first = [submit(engine, token_run(one, 1), [token_run(4)] * 10) for one in range(3, 7)]
        gate.opened.set()
        wait(first, WAIT_S)
        wait(later, WAIT_S)
    prefills = [len(batch.prefixes) for kind, batch in backend.passes if kind == "prefill"]
    assert prefills == [4, 2]


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
