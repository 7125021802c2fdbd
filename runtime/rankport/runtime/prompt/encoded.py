"""A request's prefix and items once they are tokens, and how the parts of a prompt make them of ids and rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import Column, Embeddings, RaggedIds
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Truncation
from rankport.runtime.prompt.checks import checked_rows
from rankport.runtime.prompt.embedded_items import EmbeddedItems
from rankport.runtime.prompt.item_template import ItemTemplate
from rankport.runtime.prompt.parts import ItemParts
from rankport.runtime.tokens import ResidentItems, TableRows, TokenRun, TokenRuns

_NO_PLACES = np.empty(0, np.int64)
EMPTY = "is empty: it has no token of its own, or blanks alone; leave it out, or give it text"
"""Message of an item that there is nothing to compute of."""


@dataclass(frozen=True, slots=True)
class KeyedTokens:
    """The embedding tokens of a request's keys, as far as there are some."""

    stored: Column[Embeddings] | None = None  # read from a store
    resident: ResidentItems | None = None  # in a device's memory
    # Why there are none, by the place in the request.
    missing: Mapping[int, str] = field(default_factory=dict)


NO_KEYED_TOKENS = KeyedTokens()


@dataclass(frozen=True, slots=True)
class EncodedPrefix:
    """A prefix, ready for the engine."""

    run: TokenRun
    truncated: bool  # some of its text was cut to a limit
    around: ItemParts | None = None  # its items, where the prompt has fields there


@dataclass(frozen=True, slots=True)
class EncodedItems:
    """Items of a request, ready for the engine."""

    runs: TokenRuns
    places: NDArray[np.int64]  # [runs] of each in the request, ascending
    truncated: NDArray[np.int64]  # places of those whose text was cut to a limit, ascending
    # Of those that have no run, and why, ascending.
    empty: NDArray[np.int64] = field(default_factory=_NO_PLACES.copy)

    @classmethod
    def in_order(cls, parts: "Sequence[EncodedItems]") -> "EncodedItems":
        """Joins the items of all parts in the order of the request."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls(TokenRuns.of([]), _NO_PLACES, _NO_PLACES)
        places = np.concatenate([part.places for part in parts])
        order = np.argsort(places, kind="stable")
        runs = TokenRuns.join([part.runs for part in parts]).take(order)
        truncated = np.sort(np.concatenate([part.truncated for part in parts]))
        return cls(runs, places[order], truncated, np.sort(np.concatenate([part.empty for part in parts])))


def without_blanks(texts: Column[Sequence[str]]) -> tuple[Column[Sequence[str]], NDArray[np.int64]]:
    """Leaves out texts of blanks alone, and gives their places."""
    filled = list(map(str.strip, texts.values))
    if all(filled):
        return texts, _NO_PLACES
    kept = np.array(list(map(bool, filled)), np.bool_)
    left = [text for text, has_some in zip(texts.values, filled, strict=True) if has_some]
    return Column(left, texts.places[kept]), texts.places[~kept]


def filled_items(
    item: ItemTemplate, values: RaggedIds, truncation: Truncation, places: NDArray[np.int64]
) -> EncodedItems:
    """Puts what stands around each item around its ids, and tells empty ones apart. Raises as `ItemTemplate.fill`."""
    empty = values.lengths == 0
    if not empty.any():
        return encoded_items(*item.fill(values, truncation, places), places)
    left = RaggedIds.of_lengths(values.ids, values.lengths[~empty])
    return replace(filled_items(item, left, truncation, places[~empty]), empty=places[empty])


def embedded_items(parts: ItemParts, column: Column[Embeddings] | None) -> Iterator[EncodedItems]:
    """Encodes items of embedding tokens: they differ in their rows only."""
    if column is None or not len(column.places):
        return
    items = _embedded(parts, column.places)
    rows = checked_rows(column.values, column.places, items.form.tokens, items.form.hidden_size)
    yield EncodedItems(items.runs(len(column.places), blocks=(rows,)), column.places, _NO_PLACES)


def resident_items(parts: ItemParts, resident: ResidentItems | None) -> Iterator[EncodedItems]:
    """Encodes items whose tokens are in device memory: they need nothing but the ids around them."""
    if resident is None or not len(resident.places):
        return
    items = _embedded(parts, resident.places)
    table = TableRows(resident.rows.reshape(-1), (resident.kept,), resident.keys)
    yield EncodedItems(items.runs(len(resident.places), table=table), resident.places, _NO_PLACES)


def _embedded(parts: ItemParts, places: NDArray[np.int64]) -> EmbeddedItems:
    """Gives the form of the items at these places. Raises `InvalidRequest` if the bundle takes none of it."""
    if parts.embedded is None:
        raise InvalidRequest(
            f"item {places[0]}: the bundle takes no embedding tokens: give text or token ids"
        )
    return parts.embedded


def encoded_items(filled: RaggedIds, cut: NDArray[np.bool_], places: NDArray[np.int64]) -> EncodedItems:
    """Makes the result of filled items."""
    return EncodedItems(TokenRuns(filled.ids, filled.offsets), places, places[cut])
