"""Semantic ids of items: residual quantization of their vectors by k-means, one code a level.

Level 1 quantizes the vectors, each further level what the levels before it left over. Numpy only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 15


@dataclass(frozen=True, slots=True)
class SemanticIds:
    """Codes of items and the codebook that they point into."""

    codes: NDArray[np.int64]  # [items, levels]
    codebook: NDArray[np.float32]  # [levels, codes, width]

    @property
    def tokens(self) -> tuple[str, ...]:
        """All tokens in id order, level after level: <a_0> ... <a_63> <b_0> ... [levels * codes]"""
        levels, codes = self.codebook.shape[:2]
        return tuple(token(level, code) for level in range(levels) for code in range(codes))

    def of(self, item: int) -> list[str]:
        """The tokens of one item."""
        return [token(level, int(code)) for level, code in enumerate(self.codes[item])]


def token(level: int, code: int) -> str:
    """How a code is written: <a_12> is code 12 of the first level."""
    return f"<{chr(ord('a') + level)}_{code}>"


def quantize(vectors: NDArray[np.float32], levels: int, codes: int, seed: int) -> SemanticIds:
    """Quantizes `vectors` [items, width] into `levels` codes each."""
    rng = np.random.default_rng(seed)
    rest = vectors - vectors.mean(0)
    books, chosen = [], []
    for _ in range(levels):
        centres, nearest = _k_means(rest, codes, rng)
        books.append(centres)
        chosen.append(nearest)
        rest = rest - centres[nearest]
    return SemanticIds(np.stack(chosen, 1), np.stack(books).astype(np.float32))


def _k_means(
    rows: NDArray[np.float32], codes: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Lloyd's algorithm from random rows; an empty centre moves to the row that is worst served."""
    centres = rows[rng.choice(len(rows), codes, replace=False)].copy()
    nearest = _nearest(rows, centres)
    for _ in range(_ROUNDS):
        for code in range(codes):
            members = rows[nearest == code]
            if len(members):
                centres[code] = members.mean(0)
            else:
                centres[code] = rows[int(((rows - centres[nearest]) ** 2).sum(1).argmax())]
        nearest = _nearest(rows, centres)
    return centres, nearest


def _nearest(rows: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = ((centres**2).sum(1) - 2 * rows @ centres.T).argmin(1)
    return found
