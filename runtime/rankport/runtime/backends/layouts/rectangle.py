"""`Rectangle`: tokens as graphs of `onnx-cuda` take them, [prefixes, rows, row tokens].

A row holds one item, or several short ones beside each other, and its own copy of the prefix's KV under attention: so
many that copies and scores cost about the same. Items in a pass are of similar length, and padded to the longest. Of a
graph that takes lengths in place of masks, a row holds one item; the graph of its prefixes takes masks all the same.
Of a graph that tells items apart, rows are whole items: [row items, item tokens].
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.layouts.layout import EmbeddingsForm, HostArray
from rankport.runtime.backends.layouts.packed import rank_within
from rankport.runtime.backends.layouts.sizes import (
    LINE,
    PassSizes,
    lines,
    prefill_prefixes,
    prefill_tokens,
    rounded,
)
from rankport.runtime.tokens import EMBEDDED, TokenRuns, places_within

ROW_LENGTHS = "row_lengths"
"""Input that a graph has in place of masks."""
ITEM_PLACES = "item_places"
"""Input of graphs that tell items apart, as recurrent layers do: the place of each token in its item, -1 if none."""
ASKED = "asked"
"""Input of graphs that tell single logits, by their places in all rows: made for none, to be put in the place of."""
ROW_TOKENS = 256
"""Most tokens of a row of short items."""
UNSEEN = -30_000.0
"""Added to a score, leaves it no weight; small enough for float16."""
_MASKS_KEPT, _LONG_MASKS_KEPT = 64, 4
_LONG = 512
"""Tokens of a row from which on a mask has more than a MiB."""
_NOTHING_ASKED = np.zeros(1, np.int64)


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A batch as the graphs for CUDA take it. Implements `Layout`. Make it with `rectangle`."""

    sizes: PassSizes
    past_lengths: NDArray[np.int64]  # [prefixes]
    runs: TokenRuns
    read: NDArray[np.int64]  # [results] index of the token of each
    embeddings: EmbeddingsForm
    item_tokens: int  # places of an item in its row
    positions: NDArray[np.int64]  # [real tokens]
    # Prefix, row, token of the row: each [real tokens].
    places: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
    by_length: bool = False  # one item a row; else masks say who sees whom
    by_item: bool = False  # rows are whole items

    def rounded_sizes(self, *, prefill: bool = False) -> PassSizes:
        """See `Layout.rounded_sizes`."""
        if prefill:
            prefixes = prefill_prefixes(self.sizes.prefixes)
            return with_tokens(
                replace(
                    self.sizes,
                    prefixes=prefixes,
                    row_tokens=prefill_tokens(self.sizes.row_tokens),
                    past=prefill_tokens(self.sizes.past),
                    items_total=prefixes,
                    embedding_count=rounded(self.sizes.embedding_count),
                )
            )
        return with_tokens(
            replace(
                self.sizes,
                prefixes=rounded(self.sizes.prefixes),
                rows=rounded(self.sizes.rows),
                row_tokens=lines(self.sizes.row_tokens),
                past=lines(self.sizes.past),
                items_total=rounded(self.sizes.items_total),
                embedding_count=rounded(self.sizes.embedding_count),
            )
        )

    def inputs(self, sizes: PassSizes) -> Mapping[str, HostArray]:
        """See `Layout.inputs`. Beside a device's table, `embeddings` are there only if some are sent."""
        prefix, row, token = self.places
        flat = (prefix * sizes.rows + row) * sizes.row_tokens + token
        shape = (sizes.prefixes, sizes.rows, sizes.row_tokens)
        embedded = self.runs.ids == EMBEDDED
        rows = np.full(len(embedded), -1, np.int64)
        rows[embedded] = self.runs.rows(self.embeddings.first_row)
        arrays = {
            "input_ids": _spread(shape, flat, np.where(embedded, 0, self.runs.ids), 0),
            "position_ids": _spread(shape, flat, self.positions, 0),
            "embedding_rows": _spread(shape, flat, rows, -1),
            "last_tokens": flat[self.read],
            ASKED: _NOTHING_ASKED,
            **(self._item_places(sizes, flat) if self.by_item else {}),
            **self._masks(sizes),  # the graph of prefixes takes them, where that which scores takes lengths
            **(self._lengths(sizes) if self.by_length else {}),
        }
        inputs = {name: HostArray.padded(array.shape, array) for name, array in arrays.items()}
        inputs["last_tokens"] = HostArray.padded((sizes.items_total,), arrays["last_tokens"])
        if self.runs.blocks or not self.embeddings.first_row:
            inputs["embeddings"] = self.embeddings.input(self.runs.blocks, sizes.embedding_count)
        return inputs

    def _item_places(self, sizes: PassSizes, flat: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Makes the place of each token in its item, the items of a prefix's rows one after another."""
        items = sizes.rows * sizes.row_items
        shape = (sizes.prefixes, items, sizes.row_tokens // sizes.row_items)
        return {ITEM_PLACES: _spread(shape, flat, places_within(self.runs.lengths), -1)}

    def _lengths(self, sizes: PassSizes) -> dict[str, NDArray[np.int64]]:
        """Makes those of prefixes and rows; a row that is added has one token, so that attention is defined."""
        past = np.zeros(sizes.prefixes, np.int64)
        past[: len(self.past_lengths)] = self.past_lengths
        prefix, row, token = self.places
        rows = np.ones((sizes.prefixes, sizes.rows), np.int64)
        np.maximum.at(rows, (prefix, row), token + 1)
        return {"past_lengths": past, ROW_LENGTHS: rows}

    def _masks(self, sizes: PassSizes) -> dict[str, NDArray[np.float32]]:
        # What is behind the only item of a row is read by nobody: one mask does for all lengths that are rounded alike.
        alone = self.item_tokens == self.sizes.row_tokens
        own = own_mask(sizes.row_tokens, sizes.row_tokens if alone else self.item_tokens)
        return {"past_mask": self._past_mask(sizes), "own_mask": own}

    def _past_mask(self, sizes: PassSizes) -> NDArray[np.float32]:
        mask = np.full((sizes.prefixes, sizes.past), UNSEEN, np.float32)
        mask[: len(self.past_lengths)][np.arange(sizes.past)[None, :] < self.past_lengths[:, None]] = 0
        return mask


def rectangle(
    batch: PrefixBatch, embeddings: EmbeddingsForm, *, by_length: bool = False, by_item: bool = False
) -> Rectangle:
    """Lays the runs out in order; `by_length`: one a row; `by_item`: rows are whole items."""
    runs, owner = batch.runs, batch.run_prefix
    lengths = runs.lengths
    assert len(runs) > 0
    assert lengths.min() > 0
    past_lengths = batch.past_lengths
    item = rank_within(owner)
    longest, items = int(lengths.max()), int(item.max()) + 1
    rows = items if by_length or batch.apart else -(-items // max(1, ROW_TOKENS // longest))
    if by_item:
        rows, in_row, longest = _whole_rows(items, rows, longest)
    else:
        in_row = -(-items // rows)
    prefix, token, item = np.repeat(owner, lengths), places_within(lengths), np.repeat(item, lengths)
    sizes = PassSizes(
        prefixes=len(batch.prefixes),
        rows=rows,
        row_tokens=in_row * longest,
        past=int(past_lengths.max()),
        tokens=0,
        items_total=len(batch.read_tokens),
        embedding_count=max(1, runs.sent),
        row_items=in_row if by_item else 1,
    )
    return Rectangle(
        with_tokens(sizes),
        past_lengths,
        runs,
        batch.read_tokens,
        embeddings,
        longest,
        past_lengths[prefix] + token,
        (prefix, item // in_row, item % in_row * longest + token),
        by_length,
        by_item,
    )


def _whole_rows(items: int, rows: int, longest: int) -> tuple[int, int, int]:
    """Finds rows, items of each and places of an item, so that rounding leaves a row of several as it is.

    At least as many rows as given; those of one item are rounded with it.
    """
    in_row = -(-items // rows)
    while in_row > 1:
        widths = range(longest, longest + LINE)
        shapes = [(_times(in_row, LINE // math.gcd(LINE, places)), places) for places in widths]
        row_items, places = min(shapes, key=math.prod)
        if row_items * places <= ROW_TOKENS:
            return -(-items // row_items), row_items, places
        rows += 1
        in_row = -(-items // rows)
    return rows, 1, longest


def _times(count: int, factor: int) -> int:
    """Rounds up to a multiple."""
    return -(-count // factor) * factor


def step_rows(
    tokens: NDArray[np.int64],
    places: NDArray[np.int64],
    past_lengths: NDArray[np.int64],
    shape: tuple[int, int],
) -> dict[str, NDArray[np.generic]]:
    """Lays out a token of some of the prefixes, a row each: `shape` is (prefixes, tokens of the past and its padding).

    `tokens`, `past_lengths` and `places`, which prefixes they are of: [read]. Results are of these, in their order.
    """
    prefixes, room = shape
    lengths = np.zeros(prefixes, np.int64)
    lengths[places] = past_lengths
    seen = np.arange(room) < lengths[:, None]
    rows = (prefixes, 1, 1)
    return {
        "input_ids": _spread(rows, places, tokens, 0),
        "position_ids": _spread(rows, places, past_lengths, 0),
        "last_tokens": places,
        "past_mask": np.where(seen, np.float32(0), np.float32(UNSEEN)),
        "own_mask": own_mask(1, 1),
        ITEM_PLACES: _spread(rows, places, np.zeros(len(places), np.int64), -1),
        ASKED: _NOTHING_ASKED,
    }


def with_tokens(sizes: PassSizes) -> PassSizes:
    """Counts the tokens of a rectangle's sizes, padding included."""
    return replace(sizes, tokens=sizes.prefixes * sizes.rows * sizes.row_tokens)


def own_mask(row_tokens: int, item_tokens: int) -> NDArray[np.float32]:
    """Says who sees whom in a row, [row tokens, row tokens]: each token those of its item up to itself. Read-only.

    What follows the last item that fits is nobody's, and sees its own. Many short masks are kept, and a few long ones.
    """
    return (_short_mask if row_tokens <= _LONG else _long_mask)(row_tokens, item_tokens)


def _made_mask(row_tokens: int, item_tokens: int) -> NDArray[np.float32]:
    token = np.arange(row_tokens)
    item = token // item_tokens
    visible = (token[None, :] <= token[:, None]) & (item[None, :] == item[:, None])
    mask = np.where(visible, np.float32(0), np.float32(UNSEEN))
    mask.flags.writeable = False
    return mask


_short_mask, _long_mask = lru_cache(_MASKS_KEPT)(_made_mask), lru_cache(_LONG_MASKS_KEPT)(_made_mask)


def _spread(
    shape: tuple[int, ...], flat: NDArray[np.int64], values: NDArray[np.int64], filling: int
) -> NDArray[np.int64]:
    spread = np.full(shape, filling, np.int64)
    spread.reshape(-1)[flat] = values
    return spread
