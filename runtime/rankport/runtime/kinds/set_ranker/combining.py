"""Heads of a ranker of sets: their scores, the weighted sum that ranks, and the order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest
from rankport.protos.scores import label_probabilities
from rankport.runtime.bundle.manifest import Manifest

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Heads:
    """Names of the heads, what their scores are, and the bundle's own weights."""

    names: tuple[str, ...]
    probabilities: bool  # a head's score is the sigmoid of its logit, else the logit
    own: Mapping[str, float]

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Takes what a manifest says."""
        assert manifest.labels is not None
        assert manifest.score is not None
        assert manifest.sets is not None
        return cls(
            tuple(manifest.labels.names), manifest.score.transform == "sigmoid", manifest.sets.head_weights
        )

    def weights(self, given: Mapping[str, float] | None) -> Values:
        """Orders the weights of a request, or the bundle's. [heads]

        Raises InvalidRequest for an unknown head, and where none counts: all candidates would score alike.
        """
        chosen = self.own if given is None else given
        unknown = [name for name in chosen if name not in self.names]
        if unknown:
            raise InvalidRequest(
                f"head_weights: {unknown[0]!r} is no head: the bundle has {', '.join(self.names)}"
            )
        weights = np.array([chosen.get(name, 0.0) for name in self.names], np.float32)
        if not weights.any():
            raise InvalidRequest("head_weights are all 0: give the weight of a head that counts")
        return weights

    def scores(self, logits: Values) -> Values:
        """Makes the scores of heads of logits, NaN for a row of which one logit is not finite. [rows, heads]"""
        known = np.where(np.isfinite(logits).all(axis=1, keepdims=True), logits, np.float32(np.nan))
        return label_probabilities(known, exclusive=False) if self.probabilities else known

    def combined(self, logits: Values, weights: Values) -> Values:
        """Sums the heads' scores by weight, those of equal rows alike wherever they stand. [rows]"""
        # A product of BLAS adds in another order by place.
        combined: Values = np.einsum("rh,h->r", self.scores(logits), weights)
        return combined


def best_first(scores: Values, again: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Orders candidates: equal scores as in the request, those without a score last. [candidates]

    Those of a second pass, `again`, are before the others: their scores do not compare.
    """
    if again is None:
        return np.argsort(-scores, kind="stable")
    behind = np.ones(len(scores), np.int64)
    behind[again] = 0
    behind[np.isnan(scores)] = 2
    return np.lexsort((-scores, behind))
