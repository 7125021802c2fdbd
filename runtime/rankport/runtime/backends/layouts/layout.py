"""`Layout`: a batch laid out as a form of graphs takes it, and the host arrays that its inputs are.

The seam between the two forms, `packed` and `rectangle`, and the backends that run either.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.layouts.sizes import PassSizes

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class HostArray:
    """A graph input before it is copied: `parts` behind each other in the first places of `shape`, then `filling`."""

    shape: tuple[int, ...]
    parts: tuple[Array, ...]
    dtype: np.dtype[np.generic]
    filling: float = 0

    @classmethod
    def padded(cls, shape: tuple[int, ...], corner: Array, filling: float = 0) -> "HostArray":
        """One array in the corner of a larger one."""
        return cls(shape, (corner,), corner.dtype, filling)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole shape."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def write(self, target: Array) -> None:
        """Fills an array of the shape."""
        if len(self.parts) > 1:
            count = sum(len(part) for part in self.parts)
            np.concatenate(self.parts, out=target[:count])
            target[count:] = self.filling
            return
        (corner,) = self.parts
        if target.shape != corner.shape:
            target[...] = self.filling
        target[tuple(slice(size) for size in corner.shape)] = corner

    def array(self) -> Array:
        """The array itself, copied only where it is padded, in parts, or of another type."""
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

    def rounded_sizes(self) -> PassSizes:
        """Sizes that come again, which hold the batch too."""

    def inputs(self, sizes: PassSizes) -> Mapping[str, HostArray]:
        """Graph inputs by name, without the past KV, for `sizes`; results of what is padded are read by nobody."""


def embeddings_input(blocks: tuple[Array, ...], sizes: PassSizes, hidden: int) -> HostArray:
    """The `embeddings` of a pass in float32. A graph that takes some reads a row even for text: there is always one."""
    parts = blocks or (np.zeros((1, hidden), np.float32),)
    return HostArray((sizes.embedding_count, hidden), parts, np.dtype(np.float32))
