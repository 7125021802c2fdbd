"""Token values between a prompt and a device: runs of tokens behind each other, with the embeddings among them.

Owns no tokenizer and no device. Every package of the runtime may import it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import lengths_of, offsets_of

EMBEDDED = -1
"""The token id that stands for "the next embedding"."""

EmbeddingRows = NDArray[np.floating]  # [rows, hidden]


@dataclass(frozen=True, slots=True)
class TokenRun:
    """One run by itself: a prefix, or an item apart from its request."""

    ids: NDArray[np.int64]  # [tokens], EMBEDDED where the next row of `embeddings` stands
    embeddings: EmbeddingRows | None = None  # [count of EMBEDDED, hidden]


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of a table in a device's memory, in the place of embeddings that are sent there."""

    rows: NDArray[np.int64]  # [count of EMBEDDED], -1: the next of the embeddings that are sent
    kept: tuple[object, ...]  # while these are referred to, the rows are given to no other item
    keys: Sequence[str] | None = None  # the rows are those of these items, in order; None: the table's own


@dataclass(frozen=True, slots=True)
class ResidentItems:
    """Items of a request whose embeddings lie in a device's table already."""

    rows: NDArray[np.int64]  # [items, k]
    places: NDArray[np.int64]  # [items] of each in the request, ascending
    kept: object  # while it is referred to, the rows are given to no other item
    keys: Sequence[str] | None = (
        None  # of the items, where who has the table finds its rows by them: see `TableRows`
    )


@dataclass(frozen=True, slots=True)
class TokenRuns:
    """Runs of tokens as columns: the items of a request, or of a pass over several."""

    ids: NDArray[np.int64]  # [tokens] of all runs, EMBEDDED where an embedding stands
    offsets: NDArray[np.int64]  # [runs + 1] of `ids`
    embedded: NDArray[np.int64] | None = None  # [runs + 1] offsets of the EMBEDDED ones; None: there are none
    blocks: tuple[EmbeddingRows, ...] = ()  # of the embeddings that are sent, in order
    table: TableRows | None = None  # None: all embeddings are sent
    seconds: NDArray[np.int64] | None = None  # [runs] where a second text begins; None: none has one

    @classmethod
    def of(cls, runs: Sequence[TokenRun]) -> "TokenRuns":
        """Puts single runs behind each other."""
        ids = np.concatenate([run.ids for run in runs]) if runs else np.empty(0, np.int64)
        blocks = tuple(run.embeddings for run in runs if run.embeddings is not None)
        return cls.of_lengths(ids, [len(run.ids) for run in runs], blocks)

    @classmethod
    def of_lengths(
        cls,
        ids: NDArray[np.int64],
        lengths: "Sequence[int] | NDArray[np.int64]",
        blocks: tuple[EmbeddingRows, ...] = (),
        table: TableRows | None = None,
    ) -> "TokenRuns":
        """Cuts the ids into runs of these lengths. [runs]"""
        offsets = offsets_of(np.asarray(lengths, np.int64))
        embedded = None
        if blocks or table is not None:
            embedded = np.concatenate([[0], np.cumsum(ids == EMBEDDED)])[offsets]
        return cls(ids, offsets, embedded, blocks, table)

    @classmethod
    def join(cls, parts: "Sequence[TokenRuns]") -> "TokenRuns":
        """Joins all runs of the parts, in order. Embeddings are not copied."""
        if len(parts) == 1:
            return parts[0]
        offsets = _joined([part.offsets for part in parts])
        embedded = None
        if any(part.embedded is not None for part in parts):
            embedded = _joined([_or_none(part.embedded, len(part)) for part in parts])
        blocks = tuple(block for part in parts for block in part.blocks)
        ids = np.concatenate([part.ids for part in parts])
        return cls(ids, offsets, embedded, blocks, _joined_tables(parts), _joined_seconds(parts))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each run. [runs]"""
        return lengths_of(self.offsets)

    @property
    def sent(self) -> int:
        """Embeddings that are sent with the runs."""
        return sum(len(block) for block in self.blocks)

    def part(self, start: int, stop: int) -> "TokenRuns":
        """Returns the runs from `start` to before `stop`; arrays are views."""
        if start == 0 and stop == len(self):
            return self
        first, last = self.offsets[start], self.offsets[stop]
        ids, offsets = self.ids[first:last], self.offsets[start : stop + 1] - first
        seconds = None if self.seconds is None else self.seconds[start:stop]
        if self.embedded is None:
            return TokenRuns(ids, offsets, seconds=seconds)
        before, after = int(self.embedded[start]), int(self.embedded[stop])
        embedded = self.embedded[start : stop + 1] - before
        if self.table is None:
            return TokenRuns(ids, offsets, embedded, _part_of(self.blocks, before, after), seconds=seconds)
        is_sent = self.table.rows < 0
        sent_before = int(np.count_nonzero(is_sent[:before]))
        sent_after = sent_before + int(np.count_nonzero(is_sent[before:after]))
        table = replace(self.table, rows=self.table.rows[before:after])
        blocks = _part_of(self.blocks, sent_before, sent_after)
        return TokenRuns(ids, offsets, embedded, blocks, table, seconds)

    def take(self, order: NDArray[np.int64]) -> "TokenRuns":
        """Takes the runs in another order. [runs]"""
        ids, offsets = _gathered(self.ids, self.offsets, order)
        seconds = None if self.seconds is None else self.seconds[order]
        if self.embedded is None:
            return TokenRuns(ids, offsets, seconds=seconds)
        places, embedded = _gathered(np.arange(self.embedded[-1]), self.embedded, order)
        table, sent = self.table, places
        if table is not None:
            is_sent = table.rows < 0
            sent = (np.cumsum(is_sent) - 1)[places[is_sent[places]]]
            table = replace(table, rows=table.rows[places])
        blocks = (_whole(self.blocks)[sent],) if len(sent) else ()
        return TokenRuns(ids, offsets, embedded, blocks, table, seconds)

    def rows(self, first: int) -> NDArray[np.int64]:
        """Numbers the row of each embedding where those that are sent lie from row `first` on. [count of EMBEDDED]"""
        if self.table is None:
            return np.arange(first, first + self.sent)
        rows = self.table.rows.copy()
        rows[rows < 0] = np.arange(first, first + self.sent)
        return rows

    def run(self, index: int) -> TokenRun:
        """Returns one run by itself; its embeddings must be sent ones."""
        own = self.part(index, index + 1)
        assert own.table is None, "its embeddings are in a device's memory alone"
        return TokenRun(own.ids, _whole(own.blocks) if own.blocks else None)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[TokenRun]:
        return map(self.run, range(len(self)))


def places_within(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts the place of each token in its run. [tokens]"""
    offsets = offsets_of(lengths)
    places: NDArray[np.int64] = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    return places


def _gathered(
    values: NDArray[np.int64], offsets: NDArray[np.int64], order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths = lengths_of(offsets)[order]
    return values[np.repeat(offsets[:-1][order], lengths) + places_within(lengths)], offsets_of(lengths)


def _joined(offsets: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    starts = offsets_of(np.array([part[-1] for part in offsets], np.int64))
    shifted = [part[:-1] + start for part, start in zip(offsets, starts, strict=False)]
    return np.concatenate([*shifted, starts[-1:]])


def _or_none(embedded: NDArray[np.int64] | None, runs: int) -> NDArray[np.int64]:
    return np.zeros(runs + 1, np.int64) if embedded is None else embedded


def _joined_tables(parts: Sequence[TokenRuns]) -> TableRows | None:
    tables = [part.table for part in parts if part.table is not None]
    if not tables:
        return None
    rows = [np.full(part.sent, -1, np.int64) if part.table is None else part.table.rows for part in parts]
    keys = [table.keys for table in tables if table.keys is not None]
    assert not keys or len(tables) == 1, "rows are numbered by the keys of one request"
    kept = tuple(kept for table in tables for kept in table.kept)
    return TableRows(np.concatenate(rows), kept, keys[0] if keys else None)


def _joined_seconds(parts: Sequence[TokenRuns]) -> NDArray[np.int64] | None:
    """Joins where second texts begin; a run without one has it begin at its end."""
    if all(part.seconds is None for part in parts):
        return None
    return np.concatenate([part.lengths if part.seconds is None else part.seconds for part in parts])


def _whole(blocks: tuple[EmbeddingRows, ...]) -> EmbeddingRows:
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _part_of(blocks: tuple[EmbeddingRows, ...], start: int, stop: int) -> tuple[EmbeddingRows, ...]:
    """Takes the rows `start` to before `stop` of the blocks."""
    parts, first = [], 0
    for block in blocks:
        begin, end = max(start - first, 0), min(stop - first, len(block))
        if begin < end:
            parts.append(block[begin:end])
        first += len(block)
    return tuple(parts)
