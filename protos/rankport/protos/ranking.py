"""`Ranking`: the items of a request best first, and `Ranks`, which makes one of anything that scores.

Owns the order of items and what a ranked item is called in tables. Scores are made elsewhere.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import checked_flag, checked_items, checked_top_k
from rankport.protos.features import FeatureColumns
from rankport.protos.scores import unrounded
from rankport.protos.tables import TableColumn, TableColumns, arrow_table, pandas_table
from rankport.protos.types import (
    Brief,
    Features,
    Item,
    ItemStatus,
    Key,
    OnMissing,
    Prefix,
    Query,
    ScoreResult,
    Truncation,
    Usage,
)


@dataclass(frozen=True, slots=True, repr=False)
class Ranking(Brief):
    """Items of one request, best first, those without a score last.

    Probabilities that float32 rounds to one number are in the order of what they are made of; equal scores are in the
    order of the request.

    The arrays are parallel, and `usage` is of the whole request, also where `top_k` cut the ranking.
    """

    indices: NDArray[np.int64]  # [ranked] places in the request
    scores: NDArray[np.float32]  # [ranked] falling; NaN of an item that has none
    logits: NDArray[np.float32]  # [ranked, labels]
    status: tuple[ItemStatus, ...]  # [ranked]
    messages: tuple[str, ...]  # [ranked]
    items: tuple[Item, ...] | None  # [ranked] as they were given; None unless they were asked for
    usage: Usage
    fingerprint: str  # of the bundle that answered
    score_kind: str  # as in `ScoreResult`, as are the next two
    read_out: str
    depth: int | None = None

    @classmethod
    def of(
        cls, result: ScoreResult, items: Sequence[Item] | None = None, top_k: int | None = None
    ) -> "Ranking":
        """Sorts a result, and keeps the first `top_k`. `items` are those of the request, in its order."""
        order = best_first(result)[:top_k]
        places = order.tolist()
        return cls(
            indices=order,
            scores=result.scores[order],
            logits=result.logits[order],
            status=tuple(result.status[place] for place in places),
            messages=tuple(result.messages[place] for place in places),
            items=None if items is None else tuple(items[place] for place in places),
            usage=result.usage,
            fingerprint=result.fingerprint,
            score_kind=result.score_kind,
            read_out=result.read_out,
            depth=result.depth,
        )

    @property
    def ranks(self) -> tuple[int | None, ...]:
        """Ranks from 1 on; None for an item without a score. [ranked]"""
        return tuple(
            rank if scored else None for rank, scored in enumerate((~np.isnan(self.scores)).tolist(), 1)
        )

    def columns(self) -> TableColumns:
        """Returns the columns of its table: rank, index, item where items were asked for, score, status, message."""
        names = None if self.items is None else [item_name(item) for item in self.items]
        named = {} if names is None else {"item": TableColumn("text", names)}
        return {
            "rank": TableColumn("optional integer", self.ranks),
            "index": TableColumn("integer", self.indices),
            **named,
            "score": TableColumn("number", self.scores),
            "status": TableColumn("text", [str(status) for status in self.status]),
            "message": TableColumn("text", self.messages),
        }

    def to_pandas(self) -> Any:
        """Makes a `pandas.DataFrame` of the columns; an item is its text, or the id of its key.

        Raises `InvalidRequest` where pandas is not installed.
        """
        return pandas_table(self.columns())

    def to_arrow(self) -> Any:
        """Makes a `pyarrow.Table` of the same columns; what is missing is null. Raises as `to_pandas`."""
        return arrow_table(self.columns())

    def __len__(self) -> int:
        return len(self.indices)


class Ranks(ABC):
    """Base of what scores and blocks: `rank`, made of its `score`."""

    @abstractmethod
    def score(
        self,
        prefix: Prefix,
        items: Iterable[Item],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
    ) -> ScoreResult:
        """Scores every item against the prefix."""

    def rank(
        self,
        prefix: Prefix,
        items: Iterable[Item],
        top_k: int | None = None,
        return_items: bool = False,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
    ) -> Ranking:
        """Scores as `score`, and sorts: best first, equal scores in the order of `items`, without a score last.

        `top_k` keeps the first so many; `return_items` puts the items beside their scores. Raises as `score`, and
        `InvalidRequest` for a `top_k` below 1.
        """
        top_k, shown = checked_top_k(top_k), checked_flag(return_items, "return_items")
        given = checked_items(items)
        result = self.score(prefix, given, timeout_s, truncation=truncation, on_missing=on_missing)
        return Ranking.of(result, given if shown else None, top_k)


class WeighingRanks(Ranks):
    """Base of what scores with wide features too."""

    @abstractmethod
    def score(
        self,
        prefix: Query,
        items: Iterable[Item],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
        features: Features | FeatureColumns | None = None,
    ) -> ScoreResult:
        """Scores every item against the prefix, with its wide features."""

    def rank(
        self,
        prefix: Query,
        items: Iterable[Item],
        top_k: int | None = None,
        return_items: bool = False,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
        features: Features | FeatureColumns | None = None,
    ) -> Ranking:
        """Ranks as `Ranks.rank`; `features` are those of the items in the order given."""
        top_k, shown = checked_top_k(top_k), checked_flag(return_items, "return_items")
        given = checked_items(items)
        result = self.score(
            prefix, given, timeout_s, truncation=truncation, on_missing=on_missing, features=features
        )
        return Ranking.of(result, given if shown else None, top_k)


def best_first(result: ScoreResult) -> NDArray[np.int64]:
    """Sorts the places of items by falling scores, as `Ranking` has them. [items]"""
    # NaN sorts last, and a stable sort keeps the request's order among equals.
    order = np.argsort(-result.scores, kind="stable")
    falling = result.scores[order]
    if (falling[1:] == falling[:-1]).any() and (values := unrounded(result)) is not None:
        order = np.lexsort((-values, -result.scores))
    return order.astype(np.int64, copy=False)


def item_name(item: Item) -> str:
    """Names an item in a table: its text, its key's id, or its shape."""
    if isinstance(item, str):
        return item
    if isinstance(item, Key):
        return item.id
    return f"{'x'.join(map(str, np.shape(item)))} {'token ids' if np.ndim(item) == 1 else 'embeddings'}"
