"""Batch independence: a lost place among the first ten is counted once a request; ties have no order to lose."""

import numpy as np
import pytest

from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.proof.batches import batch_independence, top_moved
from rankport.exporters.proof.limits import shortfalls, summarize
from rankport.runtime.bundle.manifest import BatchIndependence
from support.bundle_samples import manifest_of, ranker_draft

ALONE = np.array([3.0, 2.0, 1.0, 0.0])
SWAPPED = np.array([3.0, 1.0, 1.5, 0.0])


def test_requests_are_counted_once_whatever_the_sizes_that_move_them() -> None:
    counted = batch_independence({8: [ALONE, SWAPPED], 1: [ALONE, ALONE], 64: [ALONE + 0.25, SWAPPED]})
    assert counted == BatchIndependence(
        requests=2, items=8, sizes=[1, 8, 64], top=10, changed=1, max_abs_difference=1.0
    )


@pytest.mark.parametrize(("gap", "moved"), [(1e-7, False), (1e-5, True)])
def test_a_tie_has_no_order_to_lose(gap: float, moved: bool) -> None:
    alone = np.array([1.0 + gap, 1.0])
    assert top_moved(alone, alone[::-1]) is moved


def test_what_moves_behind_the_first_ten_is_not_counted() -> None:
    alone = np.arange(20.0)[::-1]
    behind, across = alone.copy(), alone.copy()
    behind[[12, 13]] = behind[[13, 12]]
    across[[9, 10]] = across[[10, 9]]
    assert not top_moved(alone, behind)
    assert top_moved(alone, across)


@pytest.mark.parametrize(("precision", "says"), [("fp32", 1), ("fp16", 0)])
def test_in_fp32_no_ranking_may_change_and_in_half_precision_they_are_counted(
    precision: str, says: int
) -> None:
    counted = batch_independence({1: [ALONE], 8: [SWAPPED]})
    parity = summarize("b", Tolerance(), [], None, None, precision, batches=counted)  # type: ignore[arg-type]
    missed = shortfalls(parity, None, Tolerance(), manifest_of(ranker_draft(), {}))
    assert parity.batches == counted
    assert len(missed) == says
    assert all(
        "batch independence: over passes of 1, 8 items 1 of 1 requests change among their first 10" in line
        for line in missed
    )
