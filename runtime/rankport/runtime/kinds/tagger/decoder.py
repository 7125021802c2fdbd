"""`Decoder`: rows of logits of units to spans, by the labels' scheme, and by a CRF where the bundle has one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.tagger.by_step import ByStep
from rankport.runtime.kinds.tagger.labels import LabelScheme
from rankport.runtime.kinds.tagger.linear_chain import best_labels, label_probabilities
from rankport.runtime.kinds.tagger.semi_markov import SegmentScores, best_segments
from rankport.runtime.kinds.tagger.spans import UnitSpans, spans_of
from rankport.runtime.kinds.tagger.tables import CrfTables


@dataclass(frozen=True, slots=True)
class Decoded:
    """Spans over the units of a request, and how sure each unit is."""

    spans: UnitSpans
    scores: NDArray[np.float64]  # [units] probability of what was chosen for each


@dataclass(frozen=True, slots=True)
class Decoder:
    """Labels and tables of a bundle. Safe to use from several threads at once."""

    scheme: LabelScheme
    tables: CrfTables | None = None

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> "Decoder":
        """Reads labels and tables of a tagger. Raises BundleError for a file that is no tables."""
        labels, tagging = bundle.manifest.labels, bundle.manifest.tagging
        assert labels is not None
        assert tagging is not None
        scheme = LabelScheme.of(labels.names)
        if tagging.crf is None:
            return cls(scheme)
        data = bundle.file(tagging.crf.file).read_bytes()
        return cls(scheme, CrfTables.from_bytes(data, tagging.crf, scheme))

    def decode(self, logits: NDArray[np.floating], offsets: NDArray[np.int64]) -> Decoded:
        """Decodes units [units, labels], finite; `offsets` [texts + 1] are of units."""
        exact = logits.astype(np.float64)
        if self.tables is None or not len(exact):
            labels = exact.argmax(axis=1)
            return self._joined(labels, _softmax(exact)[np.arange(len(labels)), labels], offsets)
        steps = ByStep.of(offsets)
        if self.tables.lengths is None:
            labels = best_labels(self.tables, exact, steps)
            return self._joined(labels, label_probabilities(self.tables, exact, steps, labels), offsets)
        spans = best_segments(self.tables, SegmentScores.of(exact, self.scheme, self.tables), steps)
        return Decoded(spans, _of_segments(spans, len(exact)))

    def _joined(
        self, labels: NDArray[np.int64], scores: NDArray[np.float64], offsets: NDArray[np.int64]
    ) -> Decoded:
        return Decoded(spans_of(labels, scores, offsets, self.scheme), scores)


def _of_segments(spans: UnitSpans, units: int) -> NDArray[np.float64]:
    """Gives each unit of a span the span's probability; NaN outside, where a cut has none of its own. [units]"""
    scores = np.full(units, np.nan)
    for first, last, score in zip(spans.first, spans.last, spans.scores, strict=True):
        scores[first:last] = score
    return scores


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return probabilities
