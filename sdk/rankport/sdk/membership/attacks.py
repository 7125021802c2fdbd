"""Attacks: scores of users, high for members, each by a model that has not seen the user.

Two kinds: a logistic regression over all features and their squares, and the threshold on the one feature that tells
members best on the users to learn from, in the direction that it has there.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rankport.sdk.membership.roc import Ranking
from rankport.sdk.membership.samples import Floats, Whole

Flags = NDArray[np.bool_]
Score = Callable[[Floats], Floats]
Learn = Callable[[Floats, Flags], Score]
"""Makes a score of features [users, features] of those and whether each user is a member."""

_PENALTY = 1.0  # on squared weights of columns of variance 1
_NEWTON_STEPS = 25
_TINY = 1e-12


def cross_fitted(
    learn: Learn, features: Floats, members: Flags, folds: int, repeats: int, random: np.random.Generator
) -> Floats:
    """Scores every user by models that were learnt on the other folds. [users] The mean of `repeats` splits."""
    scores = np.zeros(len(members))
    for _ in range(repeats):
        fold = _folds(members, folds, random)
        for number in range(folds):
            held = fold == number
            scores[held] += learn(features[~held], members[~held])(features[held]) / repeats
    return scores


def classifier(features: Floats, members: Flags) -> Score:
    """Learns a logistic regression over min-max scaled features and their squares."""
    low, high = features.min(axis=0), features.max(axis=0)

    def columns(given: Floats) -> Floats:
        scaled = np.clip((given - low) / np.maximum(high - low, _TINY), 0.0, 1.0)
        return np.concatenate([scaled, scaled**2], axis=1)

    learnt = columns(features)
    mean, deviation = learnt.mean(axis=0), np.maximum(learnt.std(axis=0), 1e-6)
    weights = _logistic(_with_ones((learnt - mean) / deviation), members.astype(np.float64))
    return lambda given: _with_ones((columns(given) - mean) / deviation) @ weights


def threshold(features: Floats, members: Flags) -> Score:
    """Learns which single feature tells members best, and whether they are below or above."""
    aucs = np.array([Ranking(column, members).curve().auc for column in features.T])
    best = int(np.argmax(np.abs(aucs - 0.5)))
    sign = 1.0 if aucs[best] >= 0.5 else -1.0
    middle, spread = float(np.median(features[:, best])), _spread(features[:, best])
    # Scores of several folds are put in one order, so each is measured by its fold's own spread.
    return lambda given: sign * (given[:, best] - middle) / spread


def _spread(values: Floats) -> float:
    """Measures the middle half; where most values are equal the deviation, and 1 where all are."""
    quarter, other = np.quantile(values, (0.25, 0.75))
    spreads = (float(other - quarter), float(values.std()), 1.0)
    return next(spread for spread in spreads if spread > _TINY)


def _folds(members: Flags, folds: int, random: np.random.Generator) -> Whole:
    """Deals members and others out evenly."""
    fold = np.empty(len(members), np.int64)
    for side in (members, ~members):
        places = random.permutation(np.flatnonzero(side))
        fold[places] = np.arange(len(places)) % folds
    return fold


def _logistic(columns: Floats, wanted: Floats) -> Floats:
    """Finds the weights [columns] of least penalized loss by Newton's method; the first column has no penalty."""
    weights = np.zeros(columns.shape[1])
    penalty = np.full(columns.shape[1], _PENALTY)
    penalty[0] = 0.0
    for _ in range(_NEWTON_STEPS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(columns @ weights, -30, 30)))
        slope = columns.T @ (chance - wanted) + penalty * weights
        curvature = (columns * (chance * (1 - chance))[:, None]).T @ columns + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curvature, slope)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def _with_ones(columns: Floats) -> Floats:
    return np.concatenate([np.ones((len(columns), 1)), columns], axis=1)
