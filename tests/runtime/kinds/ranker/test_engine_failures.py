"""Every request of the engine is answered whatever fails, and only the guilty one fails."""

import math
from contextlib import nullcontext

import numpy as np
import pytest

from rankport.protos.errors import (
    BackendError,
    InvalidRequest,
    LimitExceeded,
    Unavailable,
)
from rankport.runtime.backends.contract import PrefixBatch, PrefixKV
from rankport.runtime.scheduling.counts import Queue
from rankport.runtime.scheduling.prefix_cache import PrefixCache
from support.engines import (
    ITEMS,
    POISON,
    Clock,
    expected,
    gated,
    refuse_poison,
    running,
    scored,
)
from support.reference_backend import KV_BYTES, ReferenceBackend, submit, token_run


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
    class Broken(PrefixCache):
        def insert(self, *arguments: object) -> None:  # type: ignore[override]
            raise TypeError("a bug")

    with gated(new_cache=Broken) as (engine, backend, gate):
        futures = [submit(engine, token_run(first), ITEMS) for first in (1, 2)]
        gate.opened.set()
        for future in futures:
            with pytest.raises(Unavailable, match="TypeError"):
                scored(future)
        with pytest.raises(Unavailable, match="TypeError"):
            submit(engine, token_run(1), ITEMS)
    assert backend.closed
    assert engine.counts().queue == Queue(0, 0, 0)  # nothing waits for an engine that is no more


def test_an_engine_that_stops_in_a_pass_is_no_longer_busy() -> None:
    class Lost(ReferenceBackend):
        def score(self, batch: PrefixBatch) -> np.ndarray:
            clock.now_s += 5.0
            raise SystemExit

    clock = Clock()
    with running(Lost(), clock=clock) as engine:
        with pytest.raises(Unavailable):
            scored(submit(engine, token_run(1), ITEMS))
        engine.close()
        busy_s, clock.now_s = engine.counts().busy_s, 100.0
        assert (engine.counts().busy_s, engine.counts().silent_s) == (busy_s, 0.0)


def test_requests_without_items_or_tokens_are_refused() -> None:
    with running(ReferenceBackend()) as engine:
        with pytest.raises(InvalidRequest, match="without items"):
            submit(engine, token_run(1), [])
        with pytest.raises(InvalidRequest, match="item 1 has no tokens"):
            submit(engine, token_run(1), [token_run(1), token_run()])


@pytest.mark.parametrize("what", ["prefill", "score", "split"])
def test_kv_that_no_request_uses_gives_way_to_a_pass_that_finds_no_memory(what: str) -> None:
    """Memory lies in parts, say: the cache has less than its budget, and nothing large fits."""

    class Tight(ReferenceBackend):
        most_bytes: float = math.inf

        def split(self, kv: PrefixKV, length: int) -> tuple[PrefixKV, PrefixKV]:
            self.check("split")
            return super().split(kv, length)

        def check(self, kind: str) -> None:
            if kind == what and engine.cache_stats().bytes > self.most_bytes:
                error = BackendError("no memory left")
                error.wants_memory = True
                raise error

    backend = Tight(before_pass=lambda kind, _: backend.check(kind))
    with running(backend) as engine:
        for first in range(1, 9):
            scored(submit(engine, token_run(first, 2, 3, 4), ITEMS))
        backend.most_bytes = 20 * KV_BYTES
        prefix = token_run(5, 2, 3, 9)  # begins as one that is kept
        result = scored(submit(engine, prefix, ITEMS))
        np.testing.assert_allclose(result.logits, expected(backend, prefix, ITEMS), atol=1e-6)
        kept = engine.cache_stats()
        assert 0 < kept.bytes <= 20 * KV_BYTES
        assert kept.evictions < 8, "the latest are kept"
        backend.most_bytes = -1
        # With nothing left that could be split, nothing is.
        with nullcontext() if what == "split" else pytest.raises(BackendError, match="no memory left"):
            scored(submit(engine, token_run(5, 2, 6), ITEMS))
        backend.most_bytes = math.inf
        result = scored(submit(engine, prefix, ITEMS))
        np.testing.assert_allclose(result.logits, expected(backend, prefix, ITEMS), atol=1e-6)
