"""Answers of the kinds that classify: logits of a request's texts to a `ClassifyResult`."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.classes import ClassifyResult
from rankport.protos.scores import label_probabilities
from rankport.protos.types import ScoreResult, Usage
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.kinds.score_answer import ScoredItems


@dataclass(frozen=True, slots=True)
class ClassForm:
    """Labels of a bundle, and how their probabilities are made of logits."""

    labels: tuple[str, ...]
    exclusive: bool
    fingerprint: str

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Takes it from the manifest of a classifier."""
        labels, head = manifest.labels, manifest.head
        assert labels is not None
        assert head is not None
        return cls(tuple(labels.names), head.exclusive, manifest.fingerprint)

    @classmethod
    def of_scores(cls, manifest: Manifest) -> Self | None:
        """Takes it from a manifest of labels and scores; None where the labels are no classes.

        Classes are the outputs of a classification head whose scores are probabilities, or log-odds of one.
        """
        labels, score = manifest.labels, manifest.score
        if labels is None or score is None or labels.source != "classification_head":
            return None
        if score.transform == "none":
            return None
        return cls(tuple(labels.names), score.transform != "sigmoid", manifest.fingerprint)

    @classmethod
    def of_pairs(cls, manifest: Manifest) -> Self | None:
        """Takes it from a cross-encoder's manifest; None of a single label, which is a score and no class."""
        form = cls.of_scores(manifest)
        return None if form is None or len(form.labels) < 2 else form

    def nothing(self) -> NDArray[np.float32]:
        """Makes the logits of no texts. [0, labels]"""
        return np.empty((0, len(self.labels)), np.float32)

    def answer(self, request: ScoredItems, logits: NDArray[np.float32], usage: Usage) -> ClassifyResult:
        """Makes the result of logits [texts that were read, labels], of which some may not be finite."""
        failed = np.logical_not(np.isfinite(logits).all(axis=1))
        known = np.where(failed[:, None], np.float32(np.nan), logits) if failed.any() else logits
        if len(known) < request.count:
            every = np.full((request.count, len(self.labels)), np.nan, np.float32)
            every[request.items.places] = known
            known = every
        status, messages = request.outcomes(request.items.places[failed])
        return ClassifyResult(
            labels=self.labels,
            probabilities=label_probabilities(known, exclusive=self.exclusive),
            logits=known,
            exclusive=self.exclusive,
            status=status,
            messages=messages,
            usage=usage,
            fingerprint=self.fingerprint,
        )

    def of_result(self, result: ScoreResult) -> ClassifyResult:
        """Makes the classes of what was scored, of the same logits."""
        failed = np.logical_not(np.isfinite(result.logits).all(axis=1))
        known = (
            np.where(failed[:, None], np.float32(np.nan), result.logits) if failed.any() else result.logits
        )
        return ClassifyResult(
            labels=self.labels,
            probabilities=label_probabilities(known, exclusive=self.exclusive),
            logits=known,
            exclusive=self.exclusive,
            status=result.status,
            messages=result.messages,
            usage=result.usage,
            fingerprint=result.fingerprint,
        )
