"""Cosines between rows: exact means from sums, quantiles from a sample, nearest neighbours by blocks.

The mean cosine of all pairs of n unit rows u_i is (|sum u_i|^2 - n) / (n (n - 1)); between two sets it is the dot
product of their mean unit rows. Neither needs the n x n matrix. Rows of zeros have no direction: they are left out.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankport.exporters.vocabulary.diagnostics.spectrum import BLOCK_VALUES, blocks

_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, slots=True)
class RowSums:
    """Figures that one pass over rows yields."""

    unit_sum: Tensor  # [width] float64, sum of unit rows
    norms: NDArray[np.float32]  # [rows]

    @property
    def directed(self) -> int:
        """Rows that are not all zero."""
        return int(np.count_nonzero(self.norms))


@dataclass(frozen=True, slots=True)
class CosineBlock:
    """Cosines of one block of pairs: new/new, new/old or old/old."""

    mean: float  # over all pairs, exact
    p05: float  # of a sample of rows
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A new row and the pretrained rows nearest to it by cosine."""

    row: int
    old_rows: tuple[int, ...]
    cosines: tuple[float, ...]


def row_sums(rows: Tensor) -> RowSums:
    """Norms and the sum of unit rows of `rows` [rows, width]."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    norms = np.empty(len(rows), np.float32)
    done = 0
    for block in blocks(rows):
        norm = block.norm(dim=1)
        inverse = torch.where(norm > 0, 1 / norm, 0)
        total += (inverse @ block).double()
        norms[done : done + len(block)] = norm.numpy()
        done += len(block)
    return RowSums(total, norms)


def within(sums: RowSums, sample: Tensor) -> CosineBlock:
    """Cosines between different rows of one set; quantiles over the pairs of `sample` [rows, width]."""
    count = sums.directed
    mean = (float(sums.unit_sum @ sums.unit_sum) - count) / max(1, count * (count - 1))
    return _block(mean, upper_triangle(cosine_matrix(sample, sample)))


def between(sums: RowSums, other: RowSums, sample: Tensor, other_sample: Tensor) -> CosineBlock:
    """Cosines between rows of two sets."""
    mean = float(sums.unit_sum @ other.unit_sum) / max(1, sums.directed * other.directed)
    return _block(mean, cosine_matrix(sample, other_sample).ravel())


def cosine_matrix(left: Tensor, right: Tensor) -> NDArray[np.float32]:
    """Cosines [left rows, right rows]; 0 for a row of zeros."""
    cosines: NDArray[np.float32] = (unit(left) @ unit(right).T).numpy()
    return cosines


def unit(rows: Tensor) -> Tensor:
    """Scales rows to unit length in float32; rows of zeros stay zero."""
    return torch.nn.functional.normalize(rows.float(), dim=1)


def upper_triangle(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Takes values above the diagonal. [rows * (rows - 1) / 2]"""
    values: NDArray[np.float32] = matrix[np.triu_indices(len(matrix), 1)]
    return values


def nearest(
    rows: Tensor, ids: list[int], old: Tensor, k: int, *, block_values: int = BLOCK_VALUES
) -> list[Neighbour]:
    """Finds the `k` rows of `old` [old rows, width] nearest to each of `rows`, of these `ids`; one pass over `old`."""
    wanted, k = unit(rows), min(k, len(old))
    best = torch.full((len(ids), 0), 0.0)
    best_rows = torch.zeros((len(ids), 0), dtype=torch.int64)
    start = 0
    for block in blocks(old, block_values):
        cosines = torch.cat([best, wanted @ unit(block).T], 1)
        here = torch.arange(start, start + len(block)).expand(len(ids), -1)
        best, order = cosines.topk(min(k, cosines.shape[1]), 1)
        best_rows = torch.cat([best_rows, here], 1).gather(1, order)
        start += len(block)
    return [
        Neighbour(row, tuple(old_rows.tolist()), tuple(round(value, 4) for value in near.tolist()))
        for row, old_rows, near in zip(ids, best_rows, best, strict=True)
    ]


def _block(mean: float, values: NDArray[np.float32]) -> CosineBlock:
    p05, p50, p95 = (float(value) for value in np.quantile(values, _QUANTILES))
    return CosineBlock(mean, p05, p50, p95)
