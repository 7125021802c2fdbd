"""`TowersRequest`: what is known of a request before anything is computed, and how rows become an answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.sparse import SparseRows
from rankport.protos.types import Usage
from rankport.runtime.kinds.score_answer import ScoredItems
from rankport.runtime.kinds.text_engine import TextRows, WeightRows
from rankport.runtime.prompt.encoded import EncodedItems, EncodedPrefix

Rows = NDArray[np.float32]
Values = NDArray[np.floating] | SparseRows
"""Representations [texts, vectors, width]; weights of a vocabulary without their zeros."""
RowColumn = tuple[NDArray[np.int64], Values]
"""Places of items, ascending, and their representations."""
Computed = TextRows | WeightRows
"""Representations that engines made of texts."""


@dataclass(frozen=True, slots=True)
class TowersRequest:
    """One request, read: texts as tokens, representations that are given or stored as rows."""

    count: int  # of items
    query: EncodedPrefix | Rows  # tokens, or the representation [vectors, width]
    texts: EncodedItems  # of the items that are texts
    rows: tuple[RowColumn, ...]  # of the items that are given or stored
    places: NDArray[np.int64]  # [scored] of the items that have a representation, or will, ascending
    features: Rows | None  # [count, features]
    missing: Mapping[int, str]  # why an item has none, by its place

    @property
    def scored(self) -> ScoredItems:
        """The items as an answer tells of them."""
        return ScoredItems(
            self.count,
            EncodedItems(self.texts.runs, self.places, self.texts.truncated, self.texts.empty),
            isinstance(self.query, EncodedPrefix) and self.query.truncated,
            self.missing,
        )

    def filled(self, parts: tuple[Computed, ...], together: bool) -> tuple[Rows, tuple[RowColumn, ...]]:
        """Takes the rows that were computed to the query [vectors, width] and the items that are scored.

        `together` says that query and texts were computed as one, the query first.
        """
        computed: list[Values] = [part.rows for part in parts]
        if together:
            (both,) = computed
            computed = [_between(both, 0, 1), _between(both, 1, len(both))]
        columns = self.rows
        if len(self.texts.places):
            columns = (*columns, (self.texts.places, computed[-1]))
        query = (
            _dense(computed[0])[0].astype(np.float32) if isinstance(self.query, EncodedPrefix) else self.query
        )
        return query, columns

    def scored_parts(
        self, columns: tuple[RowColumn, ...], most: int | None
    ) -> Iterator[tuple[NDArray[np.int64], Rows]]:
        """Yields the items that are scored in order, at most so many at once: places, and rows [n, vectors, width]."""
        for start in range(0, len(self.places), most or max(1, len(self.places))):
            places = self.places[start : start + most] if most else self.places
            rows = np.empty((len(places), *_shape(columns[0][1])), np.float32)
            for own, values in columns:
                first, end = np.searchsorted(own, (places[0], places[-1] + 1))
                rows[np.searchsorted(places, own[first:end])] = _dense(_between(values, first, end))
            yield places, rows

    def usage(self, computed: tuple[Computed, ...], tokenize_s: float, score_s: float) -> Usage:
        """Counts what was read; the towers of a request work at the same time."""
        asked = computed and isinstance(self.query, EncodedPrefix)
        return Usage(
            prefix_tokens_cached=0,
            prefix_tokens_computed=len(self.query.run.ids) if asked else 0,  # type: ignore[union-attr]
            item_tokens=len(self.texts.runs.ids),
            tokenize_s=tokenize_s,
            queue_s=max((part.queue_s for part in computed), default=0.0),
            compute_s=max((part.compute_s for part in computed), default=0.0) + score_s,
        )


def _between(values: Values, start: int, stop: int) -> Values:
    return values.part(start, stop) if isinstance(values, SparseRows) else values[start:stop]


def _dense(values: Values) -> NDArray[np.floating]:
    return values.to_dense()[:, None] if isinstance(values, SparseRows) else values


def _shape(values: Values) -> tuple[int, ...]:
    return (1, values.width) if isinstance(values, SparseRows) else values.shape[1:]
