"""Judged texts answered by a classifier bundle, and the quality that follows.

A text is a request whose items are its labels, of which the right ones have gain 1: NDCG@1 is then the accuracy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.kinds.classifier.proof.reference import HeadReference
from rankport.exporters.kinds.texts.pairs.reference import PairIds
from rankport.exporters.options.judged_texts import JudgedText
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.metrics import ndcg
from rankport.protos.classes import ClassText, ClassTexts
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import ItemStatus
from rankport.runtime.bundle.manifest import Manifest, Quality
from rankport.runtime.kinds.classifier.encoder import ClassEncoder
from rankport.runtime.kinds.classifier.text_classifier import TextClassifier
from rankport.runtime.tokens import TokenRuns

Logits = NDArray[np.float32]  # [texts, labels]


@dataclass(frozen=True, slots=True)
class JudgedClasses:
    """Judged texts as the bundle saw and answered them."""

    sources: Sequence[PairIds]  # of each text, as the source is given it
    gains: NDArray[np.float64]  # [texts, labels]
    logits: Logits

    @classmethod
    def run(cls, judged: Sequence[JudgedText], manifest: Manifest, place: Runnable, *, typed: bool) -> Self:
        """Answers every text through the whole in-process runtime.

        Raises InvalidRequest, with the line, for an unknown label and for a text without a token.
        """
        assert manifest.labels is not None
        gains = np.stack([_gains(text, manifest.labels.names) for text in judged])
        asked: list[ClassText] = [text.text for text in judged]
        with TextClassifier.load(place.bundle, config=place.config) as classifier:
            result = classifier.submit_classify(asked, truncation="truncate").result()
        if ItemStatus.FAILED in result.status:
            failed = result.status.index(ItemStatus.FAILED)
            raise InvalidRequest(f"{judged[failed].place}: {result.messages[failed]}")
        runs = (
            ClassEncoder.from_bundle(place.bundle).encode(ClassTexts.of(asked), None, "truncate").items.runs
        )
        return cls(sources_of(runs, typed=typed), gains, result.logits)

    def quality(self, reference: HeadReference) -> Quality:
        """Computes NDCG of a source and of the bundle."""
        expected = reference.logits(self.sources)
        return Quality(
            requests=len(self.gains),
            ndcg_at_1_source=self._ndcg(expected, 1),
            ndcg_at_1_bundle=self._ndcg(self.logits, 1),
            ndcg_at_10_source=self._ndcg(expected, 10),
            ndcg_at_10_bundle=self._ndcg(self.logits, 10),
        )

    def _ndcg(self, logits: Logits, k: int) -> float:
        rows = zip(logits.astype(np.float64), self.gains, strict=True)
        return float(np.mean([ndcg(values, gains, k) for values, gains in rows]))


def sources_of(runs: TokenRuns, *, typed: bool) -> list[PairIds]:
    """Gives the ids and, of pairs whose model takes them, the token types of runs."""
    firsts = runs.seconds
    if firsts is None or not typed:
        return [PairIds(run.ids, None) for run in runs]
    return [
        PairIds(run.ids, (np.arange(len(run.ids)) >= first).astype(np.int64))
        for run, first in zip(runs, firsts.tolist(), strict=True)
    ]


def _gains(text: JudgedText, names: Sequence[str]) -> NDArray[np.float64]:
    unknown = [name for name in text.labels if name not in names]
    if unknown:
        raise InvalidRequest(f"{text.place}: label {unknown[0]!r} is none of {', '.join(names)}")
    return np.array([float(name in text.labels) for name in names])
