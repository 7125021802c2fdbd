"""Answers of the kinds that score: logits of a request's items, and what became of each, to a `ScoreResult`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.scores import label_scores
from rankport.protos.types import ItemStatus, ScoreResult, Usage
from rankport.runtime.bundle.description import read_out
from rankport.runtime.bundle.manifest import Labels, Manifest, Score
from rankport.runtime.prompt.encoded import EMPTY, EncodedItems


@dataclass(frozen=True, slots=True)
class ScoredItems:
    """Items of a request as far as they are known before they are scored."""

    count: int  # those without tokens too
    items: EncodedItems
    prefix_truncated: bool = False
    missing: Mapping[int, str] = field(default_factory=dict)  # why there are no tokens, by place
    part: str = "item"  # what is cut where an item is, in messages

    def outcomes(self, failed: NDArray[np.int64]) -> tuple[tuple[ItemStatus, ...], tuple[str, ...]]:
        """Makes status and message of every item; those at the places `failed` have no finite logit."""
        items = self.items
        if not (
            self.prefix_truncated or self.missing or len(failed) or len(items.truncated) or len(items.empty)
        ):
            return (ItemStatus.OK,) * self.count, ("",) * self.count
        status, messages = [ItemStatus.OK] * self.count, [""] * self.count
        for place, own, message in self._told(failed):
            status[place], messages[place] = own, message
        return tuple(status), tuple(messages)

    def _told(self, failed: NDArray[np.int64]) -> Iterator[tuple[int, ItemStatus, str]]:
        """Yields the items that there is something to say of; what comes later counts."""
        if self.prefix_truncated:
            for place in self.items.places.tolist():
                yield place, ItemStatus.TRUNCATED, "prefix cut to the bundle's limits"
        which = f"prefix and {self.part}" if self.prefix_truncated else self.part
        for place in self.items.truncated.tolist():
            yield place, ItemStatus.TRUNCATED, f"{which} cut to the bundle's limits"
        for place in failed.tolist():
            reason = "the model gave a logit that is not finite: check the item and the checkpoint"
            yield place, ItemStatus.FAILED, reason
        for place in self.items.empty.tolist():
            yield place, ItemStatus.FAILED, f"{self.part} {EMPTY}"
        for place, reason in self.missing.items():
            yield place, ItemStatus.NOT_FOUND, reason


@dataclass(frozen=True, slots=True)
class ScoreForm:
    """Labels of a bundle, and how scores are made of their logits."""

    labels: Labels
    score: Score
    fingerprint: str
    read_out: str

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Takes it from the manifest of a kind that scores."""
        labels, score = manifest.labels, manifest.score
        assert labels is not None
        assert score is not None
        return cls(labels, score, manifest.fingerprint, read_out(labels, score))

    def nothing(self) -> NDArray[np.float32]:
        """Makes the logits of no items. [0, labels]"""
        return np.empty((0, len(self.labels.names)), np.float32)

    def answer(
        self, request: ScoredItems, logits: NDArray[np.float32], failed: NDArray[np.bool_], usage: Usage
    ) -> ScoreResult:
        """Makes the result of logits [scored items, labels], of which those `failed` are not finite: they are NaN."""
        scored = np.where(failed[:, None], np.float32(np.nan), logits) if failed.any() else logits
        if len(logits) < request.count:
            every = np.full((request.count, logits.shape[1]), np.nan, np.float32)
            every[request.items.places] = scored
            scored = every
        status, messages = request.outcomes(request.items.places[failed])
        return ScoreResult(
            scores=label_scores(scored, self.labels.positive, self.score.transform),
            logits=scored,
            status=status,
            messages=messages,
            usage=usage,
            fingerprint=self.fingerprint,
            score_kind=self.score.kind,
            read_out=self.read_out,
        )
