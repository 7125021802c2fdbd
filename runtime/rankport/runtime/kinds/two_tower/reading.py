"""Reading of a request: its query, items and features, as far as they are known before anything is computed."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import check_choice, is_embedding
from rankport.protos.columns import Column, Embeddings, ItemColumns
from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.features import FeatureColumns
from rankport.protos.types import Features, Item, Key, OnMissing, Query, Truncation
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.kinds.two_tower.features import ordered_features
from rankport.runtime.kinds.two_tower.parts import TowerParts
from rankport.runtime.kinds.two_tower.request import RowColumn, Rows, TowersRequest
from rankport.runtime.kinds.two_tower.rules import is_late, vectors_of
from rankport.runtime.prompt.checks import checked_rows
from rankport.runtime.prompt.encoded import EncodedItems, EncodedPrefix
from rankport.runtime.store.contract import TokenNamespace
from rankport.runtime.store.keyed_items import KeyedItems
from rankport.runtime.tokens import TokenRuns

_ONE = np.zeros(1, np.int64)
_NONE = np.empty(0, np.int64)
_NO_TEXTS = EncodedItems(TokenRuns.of([]), _NONE, _NONE)


@dataclass(frozen=True, slots=True)
class RequestReader:
    """The bundle as far as a request is read by it."""

    manifest: Manifest
    parts: TowerParts
    keyed_items: KeyedItems
    queries: TokenNamespace | None = None  # of stored queries

    @property
    def alive(self) -> bool:
        """False where there is a store, and it cannot be read now."""
        return self.keyed_items.alive and (self.queries is None or self.queries.alive)

    def read(
        self,
        query: Query,
        items: Iterable[Item] | ItemColumns,
        truncation: Truncation,
        on_missing: OnMissing,
        features: Features | FeatureColumns | None,
    ) -> TowersRequest:
        """Tokenizes texts, reads the store and checks what is given. Raises as `Towers.submit`."""
        check_choice("on_missing", on_missing, get_args(OnMissing))
        columns = item_columns(items)
        wide = ordered_features(features, self.manifest.wide, columns.count)
        asked = self._query(query, truncation)
        keyed = self.keyed_items.resolve(columns.keys, on_missing, columns.count)
        texts = _NO_TEXTS
        if columns.texts is not None or columns.token_ids is not None:
            own = replace(columns, keys=None, embeddings=None)
            texts = self.parts.item.prompt.encode_items(own, truncation, skip_empty=True)
        there = [column for column in (columns.embeddings, keyed.stored) if column is not None]
        rows = tuple(self._row_column(column) for column in there if len(column.places))
        places = np.sort(np.concatenate([texts.places, *(column.places for column in there)]))
        return TowersRequest(columns.count, asked, texts, rows, places, wide, keyed.missing)

    @property
    def width(self) -> int:
        """Values of a representation."""
        assert self.manifest.embedding is not None
        return self.manifest.embedding.hidden_size

    def _query(self, query: Query, truncation: Truncation) -> EncodedPrefix | Rows:
        if isinstance(query, Key):
            return self._stored_query(query)
        if isinstance(query, np.ndarray) and is_embedding(query):
            return given_query(query, vectors_of(self.manifest, "query"), self.width)
        return self.parts.query.read(query, truncation)  # type: ignore[arg-type]  # an array is of ids then

    def _stored_query(self, key: Key) -> Rows:
        if is_late(self.manifest):
            raise InvalidRequest(
                f"prefix is the key {key.id!r}: of late interaction no queries are stored: give the query itself"
            )
        if self.queries is None:
            raise InvalidRequest(
                f"prefix is the key {key.id!r}, and no stored queries are at hand: give a store that `rankport encode "
                "--side query` filled with this bundle, or the query itself"
            )
        stored = self.queries.read([key.id])
        if not len(stored.places):
            raise NotFound(
                f"prefix: no query of key {key.id!r} is stored: run `rankport encode --side query` for it"
            )
        rows: Rows = stored.tokens[0].astype(np.float32)
        return rows

    def _row_column(self, column: Column[Embeddings]) -> RowColumn:
        """Checks representations that are there."""
        vectors = vectors_of(self.manifest, "item")
        rows = checked_rows(column.values, column.places, vectors, self.width)
        return column.places, rows.reshape(-1, vectors, self.width)


def item_columns(items: Iterable[Item] | ItemColumns) -> ItemColumns:
    """Sorts items into columns; of one vector, representations may be rows [width], or all of them [items, width]."""
    if isinstance(items, np.ndarray) and items.ndim == 2 and items.dtype.kind == "f":
        items = items[:, None, :]
    columns = ItemColumns.of(items)
    given = columns.embeddings
    if given is None or isinstance(given.values, np.ndarray):
        return columns
    values = [value[None] if value.ndim == 1 else value for value in given.values]
    return replace(columns, embeddings=replace(given, values=values))


def given_query(rows: NDArray[np.floating], vectors: int, width: int) -> Rows:
    """Takes the representation of a query, [vectors, width], of one vector [width] too.

    Raises InvalidRequest for another shape, or NaN.
    """
    values = rows[None] if rows.ndim == 1 else rows
    try:
        checked: Rows = checked_rows([values], _ONE, vectors, width).astype(np.float32)
    except InvalidRequest as error:
        raise InvalidRequest(str(error).replace("item 0", "prefix", 1)) from None
    return checked
