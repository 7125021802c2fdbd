"""Heads of a ranker of sets: their scores, and the weighted sum that ranks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.kinds.scores import label_probabilities

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
        """Orders the weights of a request, or the bundle's. [heads] Raises InvalidRequest for an unknown head."""
        chosen = self.own if given is None else given
        unknown = [name for name in chosen if name not in self.names]
        if unknown:
            raise InvalidRequest(
                f"head_weights: {unknown[0]!r} is no head: the bundle has {', '.join(self.names)}"
            )
        return np.array([chosen.get(name, 0.0) for name in self.names], np.float32)

    def scores(self, logits: Values) -> Values:
        """Makes the scores of heads of logits. [rows, heads]"""
        return label_probabilities(logits, exclusive=False) if self.probabilities else logits

    def combined(self, logits: Values, weights: Values) -> Values:
        """Sums the heads' scores by weight. [rows]"""
        combined: Values = self.scores(logits) @ weights
        return combined
