"""The engine is exact: prefix + items ≡ full sequence in any mix of requests."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.runtime.backends.contract import PrefixBatch, SplitKV
from rankport.runtime.config import EngineConfig
from rankport.runtime.scheduling.prefix_cache import PrefixCache
from rankport.runtime.tokens import EMBEDDED, TokenRun
from support.effort import scale
from support.engines import (
    ITEMS,
    Clock,
    expected,
    gated,
    refuse_poison,
    running,
    scored,
)
from support.mixes import Plan, check_outcome, configs, plans
from support.reference_backend import HIDDEN, ReferenceBackend, submit, token_run


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


@settings(max_examples=scale(80))
@given(st.lists(plans, min_size=1, max_size=8), configs)
def test_any_mix_of_requests_is_exact_and_fails_only_the_guilty(
    mix: list[Plan], config: EngineConfig
) -> None:
    def in_every_pass(kind: str, batch: PrefixBatch) -> None:
        cache.check_integrity()
        refuse_poison(kind, batch)

    def new_cache(budget_bytes: int, split: SplitKV) -> PrefixCache:
        nonlocal cache
        cache = PrefixCache(budget_bytes, split)
        return cache

    cache: PrefixCache
    clock = Clock()
    with gated(config, in_every_pass, clock=clock, new_cache=new_cache) as (engine, backend, gate):
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
