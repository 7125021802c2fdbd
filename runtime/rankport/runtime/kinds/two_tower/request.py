"""`TowersRequest`: what is known of a request before anything is computed, and how rows become an answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.types import Usage
from rankport.runtime.kinds.score_answer import ScoredItems
from rankport.runtime.kinds.text_engine import TextRows
from rankport.runtime.prompt.encoded import EncodedItems, EncodedPrefix

Rows = NDArray[np.float32]
RowColumn = tuple[NDArray[np.int64], NDArray[np.floating]]
"""Places of items, ascending, and their representations [items, vectors, width]."""


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

    def filled(self, parts: tuple[TextRows, ...], together: bool) -> tuple[Rows, tuple[RowColumn, ...]]:
        """Takes the rows that were computed to the query [vectors, width] and the items that are scored.

        `together` says that query and texts were computed as one, the query first.
        """
        computed = [part.rows for part in parts]
        if together:
            computed = [computed[0][:1], computed[0][1:]]
        columns = self.rows
        if len(self.texts.places):
            columns = (*columns, (self.texts.places, computed[-1]))
        query = computed[0][0].astype(np.float32) if isinstance(self.query, EncodedPrefix) else self.query
        return query, columns

    def scored_parts(
        self, columns: tuple[RowColumn, ...], most: int | None
    ) -> Iterator[tuple[NDArray[np.int64], Rows]]:
        """Yields the items that are scored in order, at most so many at once: places, and rows [n, vectors, width]."""
        for start in range(0, len(self.places), most or max(1, len(self.places))):
            places = self.places[start : start + most] if most else self.places
            rows = np.empty((len(places), *columns[0][1].shape[1:]), np.float32)
            for own, values in columns:
                first, end = np.searchsorted(own, (places[0], places[-1] + 1))
                rows[np.searchsorted(places, own[first:end])] = values[first:end]
            yield places, rows

    def usage(self, computed: tuple[TextRows, ...], tokenize_s: float, score_s: float) -> Usage:
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
