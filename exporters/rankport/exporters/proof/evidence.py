"""`Evidence`: the values behind the figures of a proof, for the plots of its page. No manifest stores them.

Owns the caps: a page of any export stays small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_POINTS = 1500
"""Values kept of a series: beyond it an even sample, with the pairs that differ most."""

ERROR_EDGES: NDArray[np.float64] = 10.0 ** (np.arange(-20, 9) / 2)
"""Half decades from 1e-10 to 1e4; what is smaller or larger is counted at the ends."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values of the source beside those of the bundle, an even sample of `total`."""

    name: str
    source: NDArray[np.float64]  # [values]
    bundle: NDArray[np.float64]  # [values]
    total: int  # values that there were
    error_counts: tuple[int, ...]  # of all of them, between each two of `ERROR_EDGES`

    @classmethod
    def of(cls, name: str, source: Sequence[ArrayLike], bundle: Sequence[ArrayLike]) -> "Series":
        """Joins the arrays of requests, and keeps at most `MOST_POINTS` pairs: some of the worst, the rest evenly."""
        first, second = _joined(source), _joined(bundle)
        errors = np.abs(second - first)
        counts, _ = np.histogram(np.clip(errors, ERROR_EDGES[0], ERROR_EDGES[-1]), ERROR_EDGES)
        kept = _kept(errors)
        return cls(name, first[kept], second[kept], len(first), tuple(counts.tolist()))

    @property
    def errors(self) -> NDArray[np.float64]:
        """Absolute differences. [values]"""
        return np.abs(self.bundle - self.source)


@dataclass(frozen=True, slots=True)
class LengthScores:
    """Scores of the bundle beside the tokens of each item, prompt included."""

    tokens: NDArray[np.int64]  # [items]
    scores: NDArray[np.float64]  # [items]
    total: int

    @classmethod
    def of(cls, tokens: ArrayLike, scores: ArrayLike) -> "LengthScores":
        """Keeps at most `MOST_POINTS` items, evenly."""
        lengths, values = np.asarray(tokens, np.int64), np.asarray(scores, np.float64)
        kept = _evenly(len(values), MOST_POINTS)
        return cls(lengths[kept], values[kept], len(values))


@dataclass(frozen=True, slots=True)
class Evidence:
    """Values that a proof compared."""

    unit: str = "logit"  # what the values of `parity` and `drift` are
    parity: Series | None = None  # source and bundle
    drift: Series | None = None  # the full-precision source and a bundle quantized at export
    ndcg: Series | None = None  # NDCG@10 of each judged request
    lengths: LengthScores | None = None
    owner: Series | None = None  # the owner's values, after their transform, and the bundle's


NO_EVIDENCE = Evidence()


def _joined(parts: Sequence[ArrayLike]) -> NDArray[np.float64]:
    flat = [np.asarray(part, np.float64).ravel() for part in parts]
    return np.concatenate(flat) if flat else np.empty(0)


def _kept(errors: NDArray[np.float64]) -> NDArray[np.int64]:
    """Gives the places to keep, ascending. [values]"""
    if len(errors) <= MOST_POINTS:
        return np.arange(len(errors))
    worst = np.argsort(-errors, kind="stable")[: MOST_POINTS // 10]
    return np.union1d(worst, _evenly(len(errors), MOST_POINTS - len(worst)))


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    places: NDArray[np.int64] = np.unique(
        np.linspace(0, max(count - 1, 0), min(count, most)).astype(np.int64)
    )
    return places
