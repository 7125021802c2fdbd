"""The memory of a device: what a device backend allocates, fills and reads, in the order of one stream.

Owns the contract and the count of what crosses between host and device. One thread drives a memory; buffers may be
dropped by any.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class Transfers:
    """Bytes moved since construction."""

    to_device: int = 0
    to_host: int = 0
    on_device: int = 0


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a strided copy: rows of bytes, in slices."""

    pointer: int
    pitch: int  # bytes from row to row
    rows: int  # rows from slice to slice


class Buffer:
    """Device memory that is given back when nothing refers to it any more, after what is enqueued by then."""

    __slots__ = ("_free", "nbytes", "pointer")

    def __init__(self, pointer: int, nbytes: int, free: Callable[[int], None]) -> None:
        self.pointer, self.nbytes, self._free = pointer, nbytes, free

    def __del__(self) -> None:
        self._free(self.pointer)


class DeviceMemory(Protocol):
    """Everything but `allocate` is enqueued on one stream."""

    @property
    def stream(self) -> int:
        """The stream's handle, for those that enqueue work on it."""

    @property
    def transfers(self) -> Transfers:
        """Bytes moved so far."""

    def allocate(self, nbytes: int) -> Buffer:
        """Raises BackendError, one that `wants_memory`, when the device has no more."""

    def staging(self, nbytes: int) -> NDArray[np.uint8]:
        """Allocates host memory that copies to and from the device fastest. [nbytes]"""

    def upload(self, host: NDArray[np.uint8], pointer: int) -> None:
        """Copies to the device. `host` of `staging` must not change before `mark` of a later moment is reached."""

    def download(self, pointer: int, host: NDArray[np.uint8]) -> None:
        """Copies to the host. `host` of `staging` is filled when `mark` of a later moment is reached."""

    def clear(self, pointer: int, nbytes: int) -> None:
        """Writes zeros."""

    def copy(self, source: Side, target: Side, *, width: int, height: int, depth: int) -> None:
        """Copies `depth` slices of `height` rows of `width` bytes, device to device."""

    def mark(self) -> Callable[[], None]:
        """Returns a call that waits until all enqueued by now is done. Raises BackendError if some of it failed."""

    def close(self) -> None:
        """Waits for what is enqueued and frees the stream. Buffers may be dropped later."""
