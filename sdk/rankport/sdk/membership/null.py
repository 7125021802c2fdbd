"""Null test: the attacks where membership is shuffled, so that nothing is there to be found.

It tells how far from .5 an attack comes by chance, and by how much the bootstrap's interval is too narrow: users that
models of other folds learnt from are not independent of those that are scored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.sdk.membership.attacks import Learn, cross_fitted
from rankport.sdk.membership.config import MembershipConfig
from rankport.sdk.membership.roc import Interval, roc_figures
from rankport.sdk.membership.samples import Floats

_RESAMPLES = 200
_HALF_WIDTH = 1.96  # standard deviations: of an interval of 95 %

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Way to attack, and the features that it looks at."""

    learn: Learn
    features: Floats  # [users, features]

    def scores(
        self, members: NDArray[np.bool_], config: MembershipConfig, random: np.random.Generator
    ) -> Floats:
        """Scores every user by models that have not seen the user. [users]"""
        return cross_fitted(self.learn, self.features, members, config.folds, config.repeats, random)


@dataclass(frozen=True, slots=True)
class Null:
    """AUCs of an attack where membership is shuffled."""

    aucs: tuple[Interval, ...]  # of each round, as the bootstrap has them

    @property
    def mean(self) -> float:
        """Mean AUC of the rounds."""
        return float(np.mean([auc.value for auc in self.aucs]))

    @property
    def highest(self) -> float:
        """Highest AUC of the rounds."""
        return max(auc.value for auc in self.aucs)

    @property
    def factor(self) -> float:
        """Factor that makes the bootstrap's intervals as wide as the rounds vary; at least 1."""
        varied = float(np.sqrt(np.mean([(auc.value - 0.5) ** 2 for auc in self.aucs])))
        told = float(np.mean([(auc.high - auc.low) / 2 for auc in self.aucs])) / _HALF_WIDTH
        return max(1.0, varied / told) if told > 0 else 1.0

    @property
    def holding(self) -> int:
        """Rounds whose interval, so widened, holds .5."""
        wide = [auc.widened(self.factor) for auc in self.aucs]
        return sum(auc.low <= 0.5 <= auc.high for auc in wide)

    def p_value(self, auc: float) -> float:
        """Share of the rounds, with the true one among them, that reach an AUC."""
        return (1 + sum(found.value >= auc for found in self.aucs)) / (1 + len(self.aucs))


def null_rounds(
    attempts: Sequence[Attempt],
    members: NDArray[np.bool_],
    config: MembershipConfig,
    random: np.random.Generator,
    on_progress: Tell,
) -> list[Null]:
    """Attacks users of shuffled membership. Returns what became of each attempt."""
    rounds = list[list[Interval]]()
    for turn in range(config.null_rounds):
        on_progress(f"null test: round {turn + 1} of {config.null_rounds}")
        shuffled = random.permutation(members)
        scores = [attempt.scores(shuffled, config, random) for attempt in attempts]
        figures, _ = roc_figures(scores, shuffled, _RESAMPLES, random)
        rounds.append([found.auc for found in figures])
    return [Null(tuple(found)) for found in zip(*rounds, strict=True)]
