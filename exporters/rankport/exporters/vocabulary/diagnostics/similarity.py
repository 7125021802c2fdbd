"""Representational similarity analysis: does the geometry of the new rows follow that of the codebook?

RSA (Kriegeskorte et al., 2008): correlate, over pairs of tokens, the cosine of their codebook vectors with the cosine
of their embedding rows. Pearson for the values, Spearman (Pearson of average ranks) for their order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Similarity:
    """Correlations over pairs of tokens."""

    pearson: float
    spearman: float
    pairs: int


def correlate(a: NDArray[np.float32], b: NDArray[np.float32]) -> Similarity:
    """Pearson's and Spearman's correlation of two arrays [pairs]; 0 where one is constant: it orders nothing."""
    assert a.shape == b.shape
    return Similarity(_pearson(a, b), _pearson(_ranks(a), _ranks(b)), len(a))


def _pearson(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> float:
    x, y = (values.astype(np.float64) - float(values.mean(dtype=np.float64)) for values in (a, b))
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts + 1) / 2)[group]
    return ranks
