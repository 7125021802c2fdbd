"""The search finds the highest rate that a server of a known capacity keeps."""

import asyncio

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest
from rankport.sdk.loadtest.config import Aim
from rankport.sdk.loadtest.result import LoadResult
from rankport.sdk.loadtest.search import find_rate


def found(capacity: float, first: float, failing: float = 1e9) -> tuple[float | None, int]:
    """Gives the rate found, and how many were run; from `failing` on a tenth of the requests fails."""

    async def run(rate: float) -> LoadResult:
        latency = np.full(100, 0.01 if rate <= capacity else 1.0)
        status = ["OK"] * 90 + ["OK" if rate < failing else "RESOURCE_EXHAUSTED"] * 10
        return LoadResult(rate, 1.0, np.arange(100) / 100, latency * 0, latency, status, {}, 0)

    best, runs = asyncio.run(find_rate(run, first, Aim(p99_s=0.2)))
    return None if best is None else best.rate, len(runs)


@pytest.mark.parametrize("first", [1.0, 100.0, 5000.0])
def test_the_capacity_is_found_from_below_and_from_above(first: float) -> None:
    rate, runs = found(137.0, first)
    assert rate is not None
    assert 137 / 1.06 <= rate <= 137
    assert runs <= 16


def test_a_rate_at_which_requests_fail_is_too_high_whatever_its_latency() -> None:
    rate, _ = found(1000.0, 10.0, failing=50.0)
    assert rate is not None
    assert 47 <= rate < 50


def test_where_no_rate_keeps_none_is_found_after_a_few() -> None:
    assert found(0.0, 100.0) == (None, 5)


def test_a_target_without_time_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="p99 is 0 s: it must be above 0"):
        Aim(p99_s=0)
