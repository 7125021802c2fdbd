"""The best bag of words: rows whose mean over a text's pieces is nearest to the text's vector.

Where the training of the decoder starts; what order and context add is left to its layers.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

STEPS = 20  # of conjugate gradients; more fit the training texts alone
HOLD = 0.3  # pull of each row to where it was, in squares beside those of the texts


@dataclass(frozen=True, slots=True)
class Bag:
    """A text's vector is the mean of its pieces' rows plus `mean`."""

    rows: torch.Tensor  # [pieces, hidden]
    mean: torch.Tensor  # [hidden]

    @classmethod
    def fit(cls, ids: list[list[int]], vectors: torch.Tensor, start: torch.Tensor) -> "Bag":
        """Least squares over texts, given as piece `ids`, and their `vectors` [texts, hidden].

        `start` [pieces, hidden] are vectors of the pieces alone.
        """
        shares = _shares(ids)
        transposed = shares.transposed(len(start))
        mean = vectors.mean(0)
        wanted = vectors - mean
        rows = start - mean
        guess = shares.times(rows)
        rows = rows * ((guess * wanted).sum() / (guess**2).sum())
        residual = transposed.times(wanted - shares.times(rows))
        direction, square = residual, (residual**2).sum()
        for _ in range(STEPS):
            image = transposed.times(shares.times(direction)) + HOLD * direction
            step = square / (direction * image).sum()
            rows, residual = rows + step * direction, residual - step * image
            previous, square = square, (residual**2).sum()
            direction = residual + square / previous * direction
        return cls(rows, mean)


@dataclass(frozen=True, slots=True)
class _Sparse:
    """A matrix by its rows."""

    columns: torch.Tensor  # [entries]
    starts: torch.Tensor  # [rows] first entry of each
    values: torch.Tensor  # [entries]

    def times(self, dense: torch.Tensor) -> torch.Tensor:
        """Product with `dense` [columns, width]. [rows, width]"""
        return functional.embedding_bag(
            self.columns, dense, self.starts, mode="sum", per_sample_weights=self.values
        )

    def transposed(self, columns: int) -> "_Sparse":
        """The matrix by its columns, of which there are `columns`."""
        counts = torch.diff(self.starts, append=torch.tensor([len(self.columns)]))
        rows = torch.arange(len(self.starts)).repeat_interleave(counts)
        order = self.columns.argsort(stable=True)
        ends = torch.bincount(self.columns, minlength=columns).cumsum(0)
        starts = torch.cat([torch.zeros(1, dtype=torch.long), ends[:-1]])
        return _Sparse(rows[order], starts, self.values[order])


def _shares(ids: list[list[int]]) -> _Sparse:
    """1 / length of its text for each piece. [texts, pieces]"""
    lengths = torch.tensor([len(run) for run in ids])
    columns = torch.tensor([id for run in ids for id in run])
    values = (1 / lengths).repeat_interleave(lengths)
    return _Sparse(columns, lengths.cumsum(0) - lengths, values)
