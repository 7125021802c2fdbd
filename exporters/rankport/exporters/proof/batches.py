"""Batch independence: whether the first ten of a request stay the same whoever shares its passes.

Owns the comparison of rankings over batch sizes. Which passes are made, a kind knows.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.proof.compare import TIE
from rankport.runtime.bundle.manifest import BatchIndependence

TOP = 10

Rankings = Sequence[NDArray[np.float64]]  # a request each: the values that order its items, [items]


def batch_independence(by_size: Mapping[int, Rankings], tie: float = TIE) -> BatchIndependence:
    """Compares the rankings of equal requests at several batch sizes with those at the smallest.

    Values that are no more than `tie` apart there have no order.
    """
    smallest, *sizes = sorted(by_size)
    alone = by_size[smallest]
    others = [by_size[size] for size in sizes]
    moved = [[top_moved(one, values[i], tie) for values in others] for i, one in enumerate(alone)]
    apart = [np.abs(values[i] - one).max(initial=0.0) for values in others for i, one in enumerate(alone)]
    return BatchIndependence(
        requests=len(alone),
        items=sum(map(len, alone)),
        sizes=[smallest, *sizes],
        top=TOP,
        changed=sum(map(any, moved)),
        max_abs_difference=float(max(apart, default=0.0)),
    )


def top_moved(alone: NDArray[np.float64], batched: NDArray[np.float64], tie: float = TIE) -> bool:
    """Says whether an item of the first ten lost a place to one that it was ahead of, ties apart."""
    first = np.argsort(-alone, kind="stable")[:TOP]
    ahead = alone[first, None] - alone[None, :] > tie
    return bool((ahead & (batched[first, None] < batched[None, :])).any())
