"""Ranking metrics in numpy: NDCG, Kendall's tau, top-k agreement.

Ranks are by descending score; ties keep their input order; NaN scores rank last.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankport.protos.errors import InvalidRequest


def ndcg(scores: ArrayLike, gains: ArrayLike, k: int) -> float:
    """Computes normalized discounted cumulative gain of the first `k`: gain 2^g - 1, discount log2(rank + 1).

    `scores` and `gains` are [items], gains finite and ≥ 0 (Burges et al., 2005). InvalidRequest for unequal
    shapes, k < 1, or no positive gain: such a query has no order to judge, so leave it out of a mean.
    """
    scores, gains = _pair(scores, gains, k)
    if not np.all(np.isfinite(gains)) or np.any(gains < 0):
        raise InvalidRequest(f"gains must be finite and at least 0, not {gains.tolist()}")
    if not np.any(gains > 0):
        raise InvalidRequest(f"all {len(gains)} gains are 0: NDCG is undefined, leave the query out")
    worth = np.exp2(gains) - 1
    best = np.sort(worth)[::-1]
    discount = 1 / np.log2(np.arange(2, min(k, len(worth)) + 2))
    return float(worth[ranking(scores)[:k]] @ discount / (best[:k] @ discount))


def kendall_tau(a: ArrayLike, b: ArrayLike) -> float:
    """Computes Kendall's tau-b of two score arrays [items], NaN taken as the lowest score (Kendall, 1945).

    Two constant arrays agree fully (1.0); one constant array orders nothing (0.0); fewer than two items have
    no pair to disagree on (1.0). Compares all pairs: O(items²) time, O(items) memory. InvalidRequest for
    unequal shapes.
    """
    a, b = _pair(a, b, 1)
    ranks_a, ranks_b = _dense_ranks(a), _dense_ranks(b)
    agreement = ordered_a = ordered_b = 0
    for row in range(len(ranks_a) - 1):
        sign_a = np.sign(ranks_a[row + 1 :] - ranks_a[row])
        sign_b = np.sign(ranks_b[row + 1 :] - ranks_b[row])
        agreement += int(sign_a @ sign_b)
        ordered_a += int(np.count_nonzero(sign_a))
        ordered_b += int(np.count_nonzero(sign_b))
    if ordered_a == 0 or ordered_b == 0:
        return float(ordered_a == ordered_b)
    return agreement / math.sqrt(ordered_a * ordered_b)


def top_k_agreement(a: ArrayLike, b: ArrayLike, k: int) -> float:
    """Computes the share of the first `k` of `a` that are among the first `k` of `b`; k is cut to the number of items.

    InvalidRequest for unequal or empty shapes, or k < 1.
    """
    a, b = _pair(a, b, k)
    if not len(a):
        raise InvalidRequest("top-k agreement of 0 items is undefined")
    k = min(k, len(a))
    return len(np.intersect1d(ranking(a)[:k], ranking(b)[:k])) / k


def ranking(scores: ArrayLike) -> NDArray[np.int64]:
    """Gives positions in descending order of score: stable, NaN last. [items]"""
    return np.argsort(-np.asarray(scores, np.float64), kind="stable")


def _pair(a: ArrayLike, b: ArrayLike, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise InvalidRequest(f"need two arrays of one length, not of shapes {first.shape} and {second.shape}")
    if k < 1:
        raise InvalidRequest(f"k must be at least 1, not {k}")
    return first, second


def _dense_ranks(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Makes integers in the order of the scores, equal where they are equal, all NaN one lowest rank. [items]"""
    finite = np.unique(scores[~np.isnan(scores)])
    return np.where(np.isnan(scores), -1, np.searchsorted(finite, scores))
