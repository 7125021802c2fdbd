"""Singular values of many rows without a copy of them, and what they say about collapse.

Formulas. Singular values: square roots of the eigenvalues of the Gram matrix [width, width], summed in float64
over blocks of rows. Effective rank: exp(-sum p_i ln p_i), p_i = s_i / sum s (Roy & Vetterli, 2007): 1 where all rows
are one direction, min(rows, width) where all directions weigh the same. Condition: largest over smallest value.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK_VALUES = 1 << 20  # 4 MB of float32


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The singular values of a set of rows."""

    singular_values: NDArray[np.float64]  # [min(rows, width)] descending

    @property
    def effective_rank(self) -> float:
        """Roy & Vetterli's effective rank; 0 of rows that are all zero."""
        return effective_rank(self.singular_values)

    @property
    def condition(self) -> float:
        """Largest over smallest singular value. Above 1e7 the Gram matrix resolves no more: infinity."""
        largest, smallest = float(self.singular_values[0]), float(self.singular_values[-1])
        return largest / smallest if smallest > 1e-7 * largest else float("inf")

    @property
    def top_share(self) -> float:
        """Share of the largest singular value in the sum of squares: 1 where all rows are one direction."""
        energy = self.singular_values**2
        return float(energy[0] / energy.sum()) if energy.sum() > 0 else 0.0


def spectrum(rows: Tensor) -> Spectrum:
    """Computes singular values of `rows` [rows, width] of any floating dtype."""
    count, width = rows.shape
    gram = torch.zeros(width, width, dtype=torch.float64)
    for block in blocks(rows):
        wide = block.double()
        gram += wide.T @ wide
    eigenvalues = torch.linalg.eigvalsh(gram).flip(0).clamp(min=0)[: min(count, width)]
    return Spectrum(eigenvalues.sqrt().numpy())


def effective_rank(singular_values: NDArray[np.float64]) -> float:
    """Computes exp of the entropy of the singular values normalised to sum 1 (Roy & Vetterli, 2007)."""
    total = singular_values.sum()
    if total <= 0:
        return 0.0
    shares = singular_values[singular_values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def blocks(rows: Tensor, values: int = BLOCK_VALUES) -> Iterator[Tensor]:
    """Cuts `rows` [rows, width] into float32 pieces of that many `values`: a memory-mapped table is read as it goes."""
    size = max(1, values // rows.shape[1])
    for start in range(0, rows.shape[0], size):
        yield rows[start : start + size].float()
