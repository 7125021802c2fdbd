"""Labels of units to spans, for all texts of a request at once, and spans to tags again.

Owns the repair: labels that no span can have are read as the nearest that one can. A span begins where a label opens
one (B, S, U), and at any other label of a type that does not go on what stands before it: after `O`, after another
type, after a label that closes (E, S, L, U), and at the start of a text. It ends before the next unit that does not go
on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.kinds.tagger.labels import LabelScheme
from rankport.runtime.tokens import places_within


@dataclass(frozen=True, slots=True)
class UnitSpans:
    """Spans over units, counted through all texts, ascending."""

    first: NDArray[np.int64]  # [spans]
    last: NDArray[np.int64]  # [spans] behind the last unit
    types: NDArray[np.int64]  # [spans] place in `LabelScheme.types`
    scores: NDArray[np.float64]  # [spans]

    def __len__(self) -> int:
        return len(self.first)


def spans_of(
    labels: NDArray[np.int64], scores: NDArray[np.float64], offsets: NDArray[np.int64], scheme: LabelScheme
) -> UnitSpans:
    """Joins the labels of units [units] to spans; `offsets` [texts + 1] are of units, a span's score is their mean."""
    kinds = scheme.type_of[labels]
    goes_on = np.zeros(len(labels) + 1, np.bool_)
    goes_on[1:-1] = (kinds[1:] == kinds[:-1]) & ~scheme.opens[labels[1:]] & ~scheme.closes[labels[:-1]]
    goes_on[offsets] = False
    inside = kinds >= 0
    first = np.flatnonzero(inside & ~goes_on[:-1])
    last = np.flatnonzero(inside & ~goes_on[1:]) + 1
    totals = np.concatenate([[0.0], np.cumsum(scores)])
    return UnitSpans(first, last, kinds[first], (totals[last] - totals[first]) / (last - first))


def tags_of(spans: UnitSpans, units: int, scheme: LabelScheme) -> NDArray[np.int32]:
    """Writes spans as tags of units: places in `scheme.tag_names`. [units]"""
    tags = np.zeros(units, np.int32)
    first, inner, last, single = scheme.tag_places
    spellings = len(scheme.tag_names[1:]) // len(scheme.types)
    base = 1 + spans.types * spellings
    lengths = spans.last - spans.first
    tags[np.repeat(spans.first, lengths) + places_within(lengths)] = np.repeat(base + inner, lengths)
    tags[spans.last - 1] = base + last
    tags[spans.first] = base + np.where(lengths == 1, single, first)
    return tags
