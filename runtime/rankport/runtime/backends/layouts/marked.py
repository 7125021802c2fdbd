"""`Marked`: texts of a pass beside each other, [lists, list tokens], padded at the end, and where their markers are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.tokens import EMBEDDED, TokenRuns

IDS, MARKS, ROWS, EMBEDDINGS = "input_ids", "marks", "embedding_rows", "embeddings"
"""Inputs of a graph: ids and rows of `embeddings` [lists, list_tokens], places [lists, marks], int64."""


@dataclass(frozen=True, slots=True)
class Marked:
    """Texts of a pass as a graph takes them. Make it with `of`."""

    ids: NDArray[np.int64]  # [lists, longest], 0 where padded or an embedding stands
    rows: NDArray[np.int64]  # [lists, longest] of `embeddings`, -1 of a token
    marks: NDArray[np.int64]  # [lists, most markers] places, 0 where padded
    counts: NDArray[np.int64]  # [lists] markers
    embeddings: NDArray[np.float32]  # [embeddings, hidden], at least one row

    @classmethod
    def of(cls, texts: TokenRuns, markers: NDArray[np.int64], hidden: int) -> Self:
        """Puts texts beside each other in their order, padded to the longest."""
        assert texts.table is None, "embeddings come with each pass"
        lengths = texts.lengths
        real = np.arange(lengths.max())[None, :] < lengths[:, None]
        ids = np.zeros(real.shape, np.int64)
        ids[real] = texts.ids
        embedded = ids == EMBEDDED
        rows = np.where(embedded, np.cumsum(embedded).reshape(ids.shape) - 1, -1)
        owner, place = np.nonzero(np.isin(ids, markers) & real)
        counts = np.bincount(owner, minlength=len(lengths))
        marks = np.zeros((len(lengths), max(int(counts.max()), 1)), np.int64)
        marks[np.arange(marks.shape[1])[None, :] < counts[:, None]] = place
        return cls(np.where(embedded, 0, ids), rows, marks, counts, _joined(texts, hidden))

    def inputs(self) -> Mapping[str, NDArray[np.generic]]:
        """Makes all inputs that a graph may have."""
        return {IDS: self.ids, MARKS: self.marks, ROWS: self.rows, EMBEDDINGS: self.embeddings}

    def cut(self, results: NDArray[np.floating]) -> NDArray[np.floating]:
        """Takes the rows of real markers, text after text, out of those of a pass. [markers, ...]"""
        return results[np.arange(results.shape[1])[None, :] < self.counts[:, None]]


def _joined(texts: TokenRuns, hidden: int) -> NDArray[np.float32]:
    rows = [block.astype(np.float32, copy=False) for block in texts.blocks]
    return np.concatenate(rows) if rows else np.zeros((1, hidden), np.float32)
