"""A ragged batch as the rectangle that graphs for a GPU take: [prefixes, rows, row tokens].

A row holds one item, or several short ones beside each other, and its own copy of the prefix's KV under attention: so
many that copies and scores cost about the same. Items in a pass are of similar length, and padded to the longest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import EMBEDDED, RaggedBatch, TokenRun
from rankport.runtime.backends.layouts.packed import rank_within

ROW_TOKENS = 256
"""Of a row of short items, at most."""
HIDDEN = -30_000.0
"""Added to a score, leaves it no weight; small enough for float16."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a rectangle."""

    prefixes: int
    rows: int  # of each prefix
    row_tokens: int
    past: int
    items_total: int
    embedding_count: int

    @property
    def tokens(self) -> int:
        """Padding included."""
        return self.prefixes * self.rows * self.row_tokens


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Graph inputs by the names the graphs give them, without the past KV, for the sizes of `shape` or larger ones."""

    shape: Shape  # the least that holds the batch
    item_tokens: int  # places of an item in its row
    ids: NDArray[np.int64]  # [real tokens], 0 where an embedding stands
    positions: NDArray[np.int64]  # [real tokens]
    embedding_rows: NDArray[np.int64]  # [real tokens], -1 for text
    places: tuple[
        NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]
    ]  # prefix, row, token: each [real tokens]
    ends: NDArray[np.int64]  # [runs] index of each run's last token among the real ones
    past_lengths: NDArray[np.int64]  # [prefixes]
    embeddings: tuple[NDArray[np.float32], ...]  # of runs that have some, each [count, hidden]

    def inputs(self, shape: Shape) -> dict[str, NDArray[np.generic]]:
        """Arrays of the sizes of `shape`, all but `embeddings`; what is padding is computed and read by nobody."""
        prefix, row, token = self.places
        flat = (prefix * shape.rows + row) * shape.row_tokens + token
        size = (shape.prefixes, shape.rows, shape.row_tokens)
        last = np.zeros(shape.items_total, np.int64)
        last[: len(self.ends)] = flat[self.ends]
        return {
            "input_ids": _spread(size, flat, self.ids, 0),
            "position_ids": _spread(size, flat, self.positions, 0),
            "embedding_rows": _spread(size, flat, self.embedding_rows, -1),
            "last_tokens": last,
            "past_mask": self._past_mask(shape),
            "own_mask": _own_mask(shape.row_tokens, self.item_tokens),
        }

    def _past_mask(self, shape: Shape) -> NDArray[np.float32]:
        mask = np.full((shape.prefixes, shape.past), HIDDEN, np.float32)
        mask[: len(self.past_lengths)][np.arange(shape.past)[None, :] < self.past_lengths[:, None]] = 0
        return mask


def rectangle(batch: RaggedBatch, first_row: int = 0) -> Rectangle:
    """Lays the runs out in order. Logit row i belongs to run i. `embeddings` start at row `first_row` of the input."""
    lengths = np.fromiter((len(run.ids) for run in batch.runs), np.int64, len(batch.runs))
    assert len(batch.runs) > 0
    assert lengths.min() > 0
    owner = batch.run_prefix
    past_lengths = np.array([sum(piece.length for piece in pieces) for pieces in batch.prefixes], np.int64)
    item = rank_within(owner)
    longest, items = int(lengths.max()), int(item.max()) + 1
    rows = -(-items // max(1, ROW_TOKENS // longest))
    in_row = -(-items // rows)
    ends = np.cumsum(lengths)
    run = np.repeat(np.arange(len(lengths)), lengths)
    offset = np.arange(ends[-1]) - (ends - lengths)[run]
    ids = np.concatenate([one.ids for one in batch.runs])
    embedded = ids == EMBEDDED
    embeddings = tuple(one.embeddings for one in batch.runs if one.embeddings is not None)
    count = sum(len(one) for one in embeddings)
    embedding_rows = np.full(len(ids), -1, np.int64)
    named = _embedding_rows(batch.runs, count, first_row)
    assert embedded.sum() == len(named)
    embedding_rows[embedded] = named
    return Rectangle(
        shape=Shape(
            len(batch.prefixes), rows, in_row * longest, int(past_lengths.max()), len(lengths), max(count, 1)
        ),
        item_tokens=longest,
        ids=np.where(embedded, 0, ids),
        positions=past_lengths[owner[run]] + offset,
        embedding_rows=embedding_rows,
        places=(owner[run], item[run] // in_row, item[run] % in_row * longest + offset),
        ends=ends - 1,
        past_lengths=past_lengths,
        embeddings=embeddings,
    )


def _embedding_rows(runs: Sequence[TokenRun], count: int, first_row: int) -> NDArray[np.int64]:
    """The row of each embedding, in the order of the runs: its own, or the next of `count` from `first_row` on."""
    own = np.arange(first_row, first_row + count)
    if all(one.resident is None for one in runs):
        return own
    rows = np.concatenate([_rows_of(one) for one in runs])
    rows[rows < 0] = own
    return rows


def _rows_of(run: TokenRun) -> NDArray[np.int64]:
    """-1 where it is to be one of those sent with the pass."""
    if run.resident is not None:
        return run.resident.rows
    return np.full(0 if run.embeddings is None else len(run.embeddings), -1, np.int64)


def _spread(
    size: tuple[int, ...], flat: NDArray[np.int64], values: NDArray[np.int64], filling: int
) -> NDArray[np.int64]:
    whole = np.full(size, filling, np.int64)
    whole.reshape(-1)[flat] = values
    return whole


def _own_mask(row_tokens: int, item_tokens: int) -> NDArray[np.float32]:
    """A token sees those of its item up to itself; what follows the last whole item is nobody's, and sees its own."""
    token = np.arange(row_tokens)
    item = token // item_tokens
    visible = (token[None, :] <= token[:, None]) & (item[None, :] == item[:, None])
    return np.where(visible, np.float32(0), np.float32(HIDDEN))
