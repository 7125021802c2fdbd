"""Mixes of requests to an engine, whose prefixes share and split one another, and what becomes of each."""

from concurrent.futures import Future, wait
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import strategies as st

from rankport.protos.errors import BackendError, DeadlineExceeded
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.engine import Scored
from support.engines import POISON, WAIT_S, expected, scored
from support.reference_backend import KV_BYTES, ReferenceBackend, token_run


@dataclass(frozen=True)
class Plan:
    """One request of a mix."""

    prefix: tuple[int, ...]
    items: tuple[tuple[int, ...], ...]
    cancelled: bool
    expired: bool


_ordinary = st.integers(0, 40)
plans = st.builds(
    Plan,
    # Two tokens only: prefixes share, extend and split one another all the time.
    prefix=st.lists(st.sampled_from([1, 2]), max_size=10).map(tuple)
    | st.lists(st.sampled_from([1, 2, POISON]), max_size=6).map(tuple),
    items=st.lists(
        st.lists(_ordinary, min_size=1, max_size=5).map(tuple) | st.sampled_from([(3, POISON)]),
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


def check_outcome(backend: ReferenceBackend, plan: Plan, future: "Future[Scored]") -> None:
    """Asserts that a request of a mix was answered as it would be alone."""
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
