"""`SparseRows`: weights of a vocabulary for several texts, only those that are not 0, behind each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Brief


@dataclass(frozen=True, slots=True, repr=False)
class SparseRows(Brief):
    """Rows of weights. Places are token ids, ascending within a row; `rows[i]` is one row's places and weights.

    A row's weights are those from `offsets[i]` to `offsets[i + 1]`, as in the `indptr` of scipy's CSR matrices.
    """

    indices: NDArray[np.int32]  # [weights]
    values: NDArray[np.float32]  # [weights]
    offsets: NDArray[np.int64]  # [rows + 1]
    width: int  # of a row with all its zeros: the vocabulary's size

    @classmethod
    def of_dense(cls, rows: NDArray[np.floating]) -> "SparseRows":
        """Takes the values of rows [rows, width] that are not 0."""
        texts, places = np.nonzero(rows)
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(np.bincount(texts, minlength=len(rows)), out=offsets[1:])
        values = rows[texts, places].astype(np.float32)
        return cls(places.astype(np.int32), values, offsets, rows.shape[1])

    @classmethod
    def joined(cls, parts: "Sequence[SparseRows]", width: int) -> "SparseRows":
        """Puts the rows of parts behind each other."""
        lengths = [np.diff(part.offsets) for part in parts]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate([_NONE, *lengths]))])
        indices = np.concatenate([np.empty(0, np.int32), *(part.indices for part in parts)])
        values = np.concatenate([np.empty(0, np.float32), *(part.values for part in parts)])
        return cls(indices, values, offsets, width)

    def __len__(self) -> int:
        """Counts the rows."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Gives the places and weights of a row. Raises IndexError as a list does."""
        start, end = self.offsets[range(len(self))[row] :][:2]
        return self.indices[start:end], self.values[start:end]

    def part(self, start: int, stop: int) -> "SparseRows":
        """Gives the rows from `start` up to `stop`, as views."""
        first, end = self.offsets[start], self.offsets[stop]
        offsets = self.offsets[start : stop + 1] - first
        return SparseRows(self.indices[first:end], self.values[first:end], offsets, self.width)

    def take(self, rows: NDArray[np.int64]) -> "SparseRows":
        """Gives some rows in the order given. [rows]"""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return SparseRows(self.indices[places], self.values[places], offsets, self.width)

    def __iter__(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Goes through the rows."""
        return (self[row] for row in range(len(self)))

    def to_dense(self) -> NDArray[np.float32]:
        """Writes the zeros out. [rows, width]"""
        dense = np.zeros((len(self), self.width), np.float32)
        dense[np.repeat(np.arange(len(self)), np.diff(self.offsets)), self.indices] = self.values
        return dense


_NONE = np.empty(0, np.int64)


def checked_rows(rows: SparseRows) -> SparseRows:
    """Checks rows that came over a wire. Raises InvalidRequest for lengths or places that do not fit."""
    weights, offsets = len(rows.values), rows.offsets
    if offsets[-1] != weights or len(rows.indices) != weights or (np.diff(offsets) < 0).any():
        raise InvalidRequest(
            f"weights have {len(rows.indices)} indices, {weights} values and lengths that end at {offsets[-1]}: all "
            "must agree"
        )
    if weights and (rows.indices.min() < 0 or rows.indices.max() >= rows.width):
        raise InvalidRequest(
            f"weights have indices from {rows.indices.min()} to {rows.indices.max()} of {rows.width}"
        )
    return rows
