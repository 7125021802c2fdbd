"""Collapse diagnostics of the new rows of one table against its pretrained rows.

Owns which rows are sampled where all would be too many; the formulas are in spectrum, cosines and similarity.
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankport.exporters.vocabulary.diagnostics.cosines import (
    CosineBlock,
    Neighbour,
    between,
    cosine_matrix,
    nearest,
    row_sums,
    upper_triangle,
    within,
)
from rankport.exporters.vocabulary.diagnostics.similarity import Similarity, correlate
from rankport.exporters.vocabulary.diagnostics.spectrum import Spectrum, spectrum
from rankport.exporters.vocabulary.new_rows import NewRows
from rankport.protos.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Sampling:
    """Samples that are looked at where all pairs would be too many."""

    rows: int = 1024  # new rows, and pretrained ones, whose pairs are compared
    neighbours: int = 5  # nearest pretrained rows shown
    neighbours_of: int = 8  # new rows for which they are shown
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Norms:
    """Lengths of rows."""

    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True, slots=True)
class Rsa:
    """Codebook cosines against row cosines: over all sampled pairs, and over those within a level."""

    all_pairs: Similarity
    within_levels: Similarity | None  # None where no names tell the levels, or no level has two of the tokens


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows that the plots show, in id order."""

    codes: NDArray[np.int64]  # [sample] new rows, counted from the first new one
    new: Tensor  # [sample, hidden] float32
    old: Tensor  # [old sample, hidden] float32
    codebook_cosines: NDArray[np.float32] | None  # [pairs] upper triangle over `codes`
    row_cosines: NDArray[np.float32]  # [pairs]


@dataclass(frozen=True, slots=True)
class TableDiagnostics:
    """All figures of one table."""

    table: str  # name of the tensor
    new_spectrum: Spectrum
    old_spectrum: Spectrum  # of as many pretrained rows, a seeded sample
    old_rows_in_spectrum: int
    new_norms: Norms
    old_norms: Norms
    new_new: CosineBlock
    new_old: CosineBlock
    old_old: CosineBlock
    duplicates: int  # new rows equal to another new row, bit by bit
    zeros: int  # new rows of zeros
    neighbours: tuple[Neighbour, ...]
    rsa: Rsa | None  # None without a codebook
    samples: Samples

    @property
    def is_empty(self) -> bool:
        """True where all new rows are zeros."""
        return self.new_norms.max == 0

    @property
    def effective_rank_ratio(self) -> float:
        """Effective rank of the new rows over that of as many pretrained ones."""
        old = self.old_spectrum.effective_rank
        return self.new_spectrum.effective_rank / old if old > 0 else 0.0

    def figures(self) -> dict[str, Any]:
        """Gives everything but the samples, as JSON has it."""
        return {
            "table": self.table,
            "new": _side(self.new_spectrum, self.new_norms),
            "old": _side(self.old_spectrum, self.old_norms) | {"rows_in_spectrum": self.old_rows_in_spectrum},
            "effective_rank_ratio": self.effective_rank_ratio,
            "cosines": {
                "new_new": asdict(self.new_new),
                "new_old": asdict(self.new_old),
                "old_old": asdict(self.old_old),
            },
            "duplicates": self.duplicates,
            "zeros": self.zeros,
            "neighbours": [asdict(neighbour) for neighbour in self.neighbours],
            "rsa": None if self.rsa is None else asdict(self.rsa),
        }


def diagnose(
    name: str,
    table: Tensor,
    rows: NewRows,
    codebook: NDArray[np.float32] | None = None,
    sampling: Sampling | None = None,
) -> TableDiagnostics:
    """Diagnostics of `rows` of `table` [rows, hidden]; `codebook` [new rows, width]. CheckpointError for NaN rows,
    and where all pretrained ones are zeros.
    """
    sampling = sampling or Sampling()
    new, old = table[rows.first : rows.first + rows.count], table[: rows.first]
    new_sums, old_sums = row_sums(new), row_sums(old)
    for sums, first in ((old_sums, 0), (new_sums, rows.first)):
        if not np.isfinite(sums.norms).all():
            broken = first + int(np.flatnonzero(~np.isfinite(sums.norms))[0])
            raise CheckpointError(f"tensor {name!r} holds NaN or infinity in row {broken}")
    if not old_sums.directed:
        raise CheckpointError(
            f"tensor {name!r} holds zeros alone in its pretrained rows, 0 to {rows.first - 1}: it was never trained or "
            "saved; there is nothing to compare new rows with"
        )
    rng = np.random.default_rng(sampling.seed)
    spectrum_rows = _sample(rng, rows.first, rows.count)
    samples = _samples(rng, new, old, codebook, sampling)
    shown = np.linspace(0, rows.count - 1, min(sampling.neighbours_of, rows.count)).astype(int)
    return TableDiagnostics(
        table=name,
        new_spectrum=spectrum(new),
        old_spectrum=spectrum(old[torch.from_numpy(spectrum_rows)]),
        old_rows_in_spectrum=len(spectrum_rows),
        new_norms=_norms(new_sums.norms),
        old_norms=_norms(old_sums.norms),
        new_new=within(new_sums, samples.new),
        new_old=between(new_sums, old_sums, samples.new, samples.old),
        old_old=within(old_sums, samples.old),
        duplicates=_duplicates(new),
        zeros=rows.count - new_sums.directed,
        neighbours=tuple(
            nearest(new[torch.from_numpy(shown)], (shown + rows.first).tolist(), old, sampling.neighbours)
        ),
        rsa=_rsa(samples, rows.levels),
        samples=samples,
    )


def _samples(
    rng: np.random.Generator,
    new: Tensor,
    old: Tensor,
    codebook: NDArray[np.float32] | None,
    sampling: Sampling,
) -> Samples:
    codes = _sample(rng, len(new), sampling.rows)
    others = _sample(rng, len(old), sampling.rows)
    rows = new[torch.from_numpy(codes)].float()
    vectors = None if codebook is None else torch.from_numpy(codebook[codes])
    return Samples(
        codes=codes,
        new=rows,
        old=old[torch.from_numpy(others)].float(),
        codebook_cosines=None if vectors is None else upper_triangle(cosine_matrix(vectors, vectors)),
        row_cosines=upper_triangle(cosine_matrix(rows, rows)),
    )


def _sample(rng: np.random.Generator, total: int, wanted: int) -> NDArray[np.int64]:
    """Draws distinct rows in order; all of them where no more are wanted than there are."""
    if wanted >= total:
        return np.arange(total)
    return np.sort(rng.choice(total, wanted, replace=False))


def _rsa(samples: Samples, levels: tuple[str, ...] | None) -> Rsa | None:
    if samples.codebook_cosines is None:
        return None
    overall = correlate(samples.codebook_cosines, samples.row_cosines)
    if levels is None:
        return Rsa(overall, None)
    level = np.unique(np.array(levels)[samples.codes], return_inverse=True)[1]
    left, right = np.triu_indices(len(level), 1)
    same = level[left] == level[right]
    if not same.any():
        return Rsa(overall, None)
    return Rsa(overall, correlate(samples.codebook_cosines[same], samples.row_cosines[same]))


def _duplicates(rows: Tensor) -> int:
    """Counts rows beyond the first of their bytes."""
    stored = rows.contiguous().view(torch.uint8).numpy()
    seen = {hashlib.blake2b(row, digest_size=16).digest() for row in stored}
    return len(rows) - len(seen)


def _norms(norms: NDArray[np.float32]) -> Norms:
    return Norms(float(norms.mean()), float(norms.std()), float(norms.min()), float(norms.max()))


def _side(values: Spectrum, norms: Norms) -> dict[str, Any]:
    condition = values.condition
    return {
        "effective_rank": values.effective_rank,
        "condition": condition if np.isfinite(condition) else None,
        "top_share": values.top_share,
        "singular_values": values.singular_values.tolist(),
        "norms": asdict(norms),
    }
