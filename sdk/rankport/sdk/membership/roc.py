"""ROC of an attack over users: AUC, true positives at a rate of false ones, and bootstrap intervals.

Intervals are percentiles over resamples of the users, of members and non-members apart. By themselves they leave out
how an attack would vary with the users that it learns from: `null` says by how much they are too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rankport.sdk.membership.samples import Floats, Whole

RATES = (0.001, 0.01)
"""Rates of false positives."""

_TAILS = (2.5, 97.5)  # percent: intervals are of 95 %
_ROUNDING = 1e-9  # of a rate times users


@dataclass(frozen=True, slots=True)
class Interval:
    """Figure with its interval of 95 %."""

    value: float
    low: float
    high: float

    def widened(self, factor: float, least: float = 0.0) -> "Interval":
        """Moves its ends away from the figure by a factor, not beyond `least` and 1; of a difference `least` is -1."""
        low, high = (self.value + factor * (end - self.value) for end in (self.low, self.high))
        return Interval(self.value, max(low, least), min(high, 1.0))

    def as_json(self) -> dict[str, float]:
        """Gives it for machines."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Curve:
    """ROC: shares of non-members and members at or above each threshold, the highest first; opens at (0, 0)."""

    false: Floats  # [points]
    true: Floats  # [points]

    @property
    def auc(self) -> float:
        """Area below; half of a tie counts."""
        steps = np.diff(self.false)
        return float((steps * (self.true[1:] + self.true[:-1]) / 2).sum())

    def true_at(self, rate: float, others: int) -> float | None:
        """Gives the largest share of members found while at most `rate` of the `others` are.

        None where 1 of them is more than that: the users do not resolve it.
        """
        if rate * others < 1 - _ROUNDING:
            return None
        return float(self.true[np.searchsorted(self.false, rate + _ROUNDING / others, side="right") - 1])


class Ranking:
    """Users in the order of a score, whatever their weights."""

    def __init__(self, scores: Floats, members: NDArray[np.bool_]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        self._ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
        self._members = members[self._order]

    def curve(self, weights: Whole | None = None) -> Curve:
        """Makes the ROC; `weights` [users] count each user so often."""
        ours = np.ones(len(self._order), np.int64) if weights is None else weights[self._order]
        true, false = (
            np.concatenate([[0], np.cumsum(np.where(side, ours, 0))[self._ends]])
            for side in (self._members, ~self._members)
        )
        return Curve(false / false[-1], true / true[-1])


@dataclass(frozen=True, slots=True)
class RocFigures:
    """Figures of one score."""

    curve: Curve
    auc: Interval
    true_at: dict[float, Interval | None]  # by rate of false positives; None: not resolved

    def widened(self, factor: float) -> "RocFigures":
        """Widens the interval of the AUC."""
        return replace(self, auc=self.auc.widened(factor))


def roc_figures(
    scores: Sequence[Floats], members: NDArray[np.bool_], resamples: int, random: np.random.Generator
) -> tuple[list[RocFigures], Floats]:
    """Measures scores of the same users on the same resamples. Returns figures, and each AUC [scores, resamples]."""
    rankings = [Ranking(score, members) for score in scores]
    others = int((~members).sum())
    aucs = np.empty((len(rankings), resamples))
    trues = np.empty((len(rankings), len(RATES), resamples))
    for turn in range(resamples):
        weights = _drawn(members, random)
        for place, ranking in enumerate(rankings):
            curve = ranking.curve(weights)
            aucs[place, turn] = curve.auc
            trues[place, :, turn] = [curve.true_at(rate, others) or 0.0 for rate in RATES]
    return [
        _figures(ranking.curve(), others, aucs[place], trues[place]) for place, ranking in enumerate(rankings)
    ], aucs


def interval(value: float, resampled: Floats) -> Interval:
    """Makes the percentile interval."""
    low, high = np.percentile(resampled, _TAILS)
    return Interval(value, float(low), float(high))


def _figures(curve: Curve, others: int, aucs: Floats, trues: Floats) -> RocFigures:
    true_at = dict[float, Interval | None]()
    for rate, resampled in zip(RATES, trues, strict=True):
        value = curve.true_at(rate, others)
        true_at[rate] = None if value is None else interval(value, resampled)
    return RocFigures(curve, interval(curve.auc, aucs), true_at)


def _drawn(members: NDArray[np.bool_], random: np.random.Generator) -> Whole:
    """Draws users anew within each side: how often each came."""
    weights = np.zeros(len(members), np.int64)
    for side in (members, ~members):
        places = np.flatnonzero(side)
        weights += np.bincount(random.choice(places, len(places)), minlength=len(members))
    return weights
