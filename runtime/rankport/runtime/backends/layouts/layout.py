"""`Layout`: a batch laid out as a form of graphs takes it, and the host arrays that its inputs are.

The seam between the two forms, `packed` and `rectangle`, and the backends that run either. Texts without a prefix have
one form, in `padded`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.layouts.sizes import PassSizes

Array = NDArray[np.generic]
Cast = Callable[[Array, Array], None]
"""Writes an array into another one of its shape and of another type."""
_FLOAT32 = np.dtype(np.float32)


def cast_by_numpy(source: Array, target: Array) -> None:
    """Casts within a kind of numbers. Implements `Cast`."""
    np.copyto(target, source, casting="same_kind")


@dataclass(frozen=True, slots=True)
class HostArray:
    """A graph input before it is copied: `parts` behind each other in the first places of `shape`, then `filling`."""

    shape: tuple[int, ...]
    parts: tuple[Array, ...]
    dtype: np.dtype[np.generic]
    filling: float = 0
    cast: Cast = cast_by_numpy  # of parts of another type

    @classmethod
    def padded(cls, shape: tuple[int, ...], corner: Array, filling: float = 0) -> "HostArray":
        """Puts one array in the corner of a larger one."""
        return cls(shape, (corner,), corner.dtype, filling)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole shape."""
        return math.prod(self.shape) * self.dtype.itemsize

    def write(self, target: Array) -> None:
        """Fills an array of the shape."""
        if len(self.parts) > 1:
            count = 0
            for part in self.parts:
                self._write_part(part, target[count : count + len(part)])
                count += len(part)
            target[count:] = self.filling
            return
        (corner,) = self.parts
        if target.shape != corner.shape:
            target[...] = self.filling
        self._write_part(corner, target[tuple(slice(size) for size in corner.shape)])

    def _write_part(self, part: Array, target: Array) -> None:
        if part.dtype == target.dtype:
            target[...] = part
        else:
            self.cast(part, target)

    def array(self) -> Array:
        """Returns the array itself, copied only where it is padded, in parts, or of another type."""
        if len(self.parts) == 1 and self.parts[0].shape == self.shape and self.parts[0].dtype == self.dtype:
            return self.parts[0]
        array = np.empty(self.shape, self.dtype)
        self.write(array)
        return array


class Layout(Protocol):
    """One batch of runs, laid out for a form of graphs; row i of the results belongs to run i."""

    @property
    def sizes(self) -> PassSizes:
        """The least sizes that hold the batch."""

    @property
    def past_lengths(self) -> NDArray[np.int64]:
        """Tokens of each prefix. [prefixes]"""

    def rounded_sizes(self, *, prefill: bool = False) -> PassSizes:
        """Rounds to sizes that come again, which hold the batch too; of a prefill pass, one run a prefix, to fewer."""

    def inputs(self, sizes: PassSizes) -> Mapping[str, HostArray]:
        """Makes graph inputs by name, without the past KV, for `sizes`; nobody reads the results of padding."""


@dataclass(frozen=True, slots=True)
class EmbeddingsForm:
    """Form in which graphs take embeddings."""

    hidden: int
    dtype: "np.dtype[np.floating]" = _FLOAT32
    first_row: int = 0  # of those that are sent, in the input: rows of a device's table lie before
    cast: Cast = cast_by_numpy  # of those that come in another type

    def input(self, blocks: Sequence[Array], count: int) -> HostArray:
        """Makes the `embeddings` of a pass, `count` rows. A graph reads a row even for text: there is always one."""
        parts = tuple(blocks) or (np.zeros((1, self.hidden), self.dtype),)
        return HostArray((count, self.hidden), parts, self.dtype, cast=self.cast)
