"""`Marked`: texts of a pass beside each other, [lists, list tokens], padded at the end, and where their markers are.

Who reads them reads from left to right: neither the padding of a list nor a list that is added changes a real row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.layouts.layout import EmbeddingsForm, HostArray
from rankport.runtime.backends.layouts.sizes import lines, rounded
from rankport.runtime.tokens import EMBEDDED, TokenRuns

IDS, MARKS, ROWS, EMBEDDINGS = "input_ids", "marks", "embedding_rows", "embeddings"
"""Inputs of a graph: ids and rows of `embeddings` [lists, list_tokens], places [lists, marks], int64."""
POSITIONS = "position_ids"
"""Input of graphs for CUDA, which would count on the host: the place of each token [list_tokens] int64."""


@dataclass(frozen=True, slots=True)
class MarkedSizes:
    """The axes of one pass."""

    lists: int
    tokens: int  # of each list
    marks: int  # of each list
    embeddings: int  # of all lists

    def rounded(self, longest: int) -> "MarkedSizes":
        """Rounds up to sizes that come again; lists have `longest` tokens at most."""
        tokens = min(lines(self.tokens), longest)
        return MarkedSizes(rounded(self.lists), tokens, rounded(self.marks), rounded(self.embeddings))


@dataclass(frozen=True, slots=True)
class Marked:
    """Texts of a pass as a graph takes them. Make it with `of`."""

    ids: NDArray[np.int64]  # [lists, longest], 0 where padded or an embedding stands
    rows: NDArray[np.int64]  # [lists, longest] of `embeddings`, -1 of a token
    marks: NDArray[np.int64]  # [lists, most markers] places, 0 where padded
    counts: NDArray[np.int64]  # [lists] markers
    blocks: tuple[NDArray[np.floating], ...]  # of the embeddings, in order

    @classmethod
    def of(cls, texts: TokenRuns, markers: NDArray[np.int64]) -> Self:
        """Puts texts beside each other in their order, padded; without `markers` a text is read at its end."""
        assert texts.table is None, "embeddings come with each pass"
        lengths = texts.lengths
        real = np.arange(lengths.max())[None, :] < lengths[:, None]
        ids = np.zeros(real.shape, np.int64)
        ids[real] = texts.ids
        embedded = ids == EMBEDDED
        rows = np.where(embedded, np.cumsum(embedded).reshape(ids.shape) - 1, -1)
        last = np.arange(real.shape[1])[None, :] == lengths[:, None] - 1
        owner, place = np.nonzero(np.isin(ids, markers) & real if len(markers) else last)
        counts = np.bincount(owner, minlength=len(lengths))
        marks = np.zeros((len(lengths), max(int(counts.max()), 1)), np.int64)
        marks[np.arange(marks.shape[1])[None, :] < counts[:, None]] = place
        return cls(np.where(embedded, 0, ids), rows, marks, counts, texts.blocks)

    @property
    def sizes(self) -> MarkedSizes:
        """The least sizes that hold the texts."""
        lists, tokens = self.ids.shape
        return MarkedSizes(lists, tokens, self.marks.shape[1], max(sum(map(len, self.blocks)), 1))

    def inputs(self, sizes: MarkedSizes, embeddings: EmbeddingsForm) -> Mapping[str, HostArray]:
        """Makes all inputs that a graph may have, for `sizes`; nobody reads the results of padding."""
        tokens = (sizes.lists, sizes.tokens)
        return {
            IDS: HostArray.padded(tokens, self.ids),
            POSITIONS: HostArray.padded((sizes.tokens,), np.arange(sizes.tokens)),
            MARKS: HostArray.padded((sizes.lists, sizes.marks), self.marks),
            ROWS: HostArray.padded(tokens, self.rows, filling=-1),
            EMBEDDINGS: embeddings.input(self.blocks, sizes.embeddings),
        }

    def cut(self, results: NDArray[np.floating]) -> NDArray[np.floating]:
        """Takes the rows of real markers, text after text, out of those of a pass. [markers, ...]"""
        return results[np.arange(results.shape[1])[None, :] < self.counts[:, None]]
