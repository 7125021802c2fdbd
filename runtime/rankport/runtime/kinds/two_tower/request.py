"""`TowersRequest`: what is known of a request before anything is computed, and how rows become an answer."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.types import Usage
from rankport.runtime.kinds.score_answer import ScoredItems
from rankport.runtime.kinds.text_engine import TextRows
from rankport.runtime.prompt.encoded import EncodedItems, EncodedPrefix

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TowersRequest:
    """One request, read: texts as tokens, representations that are given or stored as rows."""

    count: int  # of items
    query: EncodedPrefix | Rows  # tokens, or the representation [width]
    texts: EncodedItems  # of the items that are texts
    rows: Rows  # [count, width] of the items that are given or stored, zeros of the others
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

    def filled(self, parts: tuple[TextRows, ...], together: bool) -> tuple[Rows, Rows]:
        """Takes the rows that were computed to the query [width] and the items that are scored [scored, width].

        `together` says that query and texts were computed as one, the query first.
        """
        computed = [part.rows[:, 0].astype(np.float32) for part in parts]
        if together:
            computed = [computed[0][:1], computed[0][1:]]
        rows = self.rows
        if len(self.texts.places):
            rows = rows.copy()
            rows[self.texts.places] = computed[-1]
        query = computed[0][0] if isinstance(self.query, EncodedPrefix) else self.query
        return query, rows[self.places]

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
