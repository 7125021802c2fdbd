"""`CrfTables`: transitions between labels, and the file of a bundle that they lie in.

The file is float32, little-endian, row-major, tables behind each other: `transitions` [labels, labels] (from, to),
`start` [labels], `end` [labels] and, of a semi-Markov CRF, `lengths` [labels, max_segment] (of one unit, two, ...).
The labels of a linear chain are the model's; those of segments `O`, if the model has it, and the types.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.sections.tagging import Crf
from rankport.runtime.kinds.tagger.labels import OUTSIDE, LabelScheme


@dataclass(frozen=True, slots=True)
class CrfTables:
    """Scores that paths through labels have beside their logits."""

    labels: tuple[str, ...]  # that the tables are over
    transitions: NDArray[np.float64]  # [labels, labels] from, to
    start: NDArray[np.float64]  # [labels]
    end: NDArray[np.float64]  # [labels]
    lengths: NDArray[np.float64] | None = None  # [labels, max_segment], of segments

    @classmethod
    def from_bytes(cls, data: bytes, crf: Crf, scheme: LabelScheme) -> "CrfTables":
        """Reads a bundle's file.

        Raises BundleError if it has another size, values that are not finite, or texts without a cut.
        """
        labels = crf_labels(crf.kind, scheme)
        if crf.kind == "semi-markov" and not has_single(scheme, labels):
            raise BundleError(
                f"{crf.file}: no label of {list(scheme.names)} is of a segment of one unit: export it again"
            )
        shapes = _shapes(len(labels), crf.max_segment)
        expected = 4 * sum(int(np.prod(shape)) for shape in shapes)
        if len(data) != expected:
            raise BundleError(
                f"{crf.file} has {len(data)} bytes: a {crf.kind} CRF over {len(labels)} labels takes {expected}"
            )
        values = np.frombuffer(data, "<f4").astype(np.float64)
        if not np.isfinite(values).all():
            raise BundleError(f"{crf.file} holds NaN or infinity: export it again")
        edges = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        tables = [part.reshape(shape) for part, shape in zip(np.split(values, edges), shapes, strict=True)]
        return cls(labels, *tables)

    def to_bytes(self) -> bytes:
        """Writes the file."""
        tables = [self.transitions, self.start, self.end, *([] if self.lengths is None else [self.lengths])]
        return b"".join(table.astype("<f4").tobytes() for table in tables)


def crf_labels(kind: str, scheme: LabelScheme) -> tuple[str, ...]:
    """Lists what a CRF's tables are over: the model's labels, or those of segments."""
    if kind == "linear-chain":
        return scheme.names
    return (*([OUTSIDE] if OUTSIDE in scheme.names else []), *scheme.types)


def has_single(scheme: LabelScheme, labels: tuple[str, ...]) -> bool:
    """Tells labels of segments of which one can have one unit: with one, every text has a cut."""
    return OUTSIDE in labels or any(scheme.column("single", label) is not None for label in labels)


def _shapes(labels: int, max_segment: int | None) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = [(labels, labels), (labels,), (labels,)]
    return shapes if max_segment is None else [*shapes, (labels, max_segment)]
