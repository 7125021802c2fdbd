"""`Ring`: memory that two processes share, written by one and read by the other in the same order.

It has no name: it lives as long as one of them has it mapped, whatever ends them.
"""

import mmap
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BOARD = 16  # numbers
_HEAD_BYTES = 64 + 8 * _BOARD
_ALIGNMENT = 64


class Ring:
    """One end of the memory. Places in it count on for ever; the reader says how far it is. Not thread-safe."""

    def __init__(self, fd: int) -> None:
        """Maps the memory of a descriptor, which its owner may close then."""
        self._map = mmap.mmap(fd, 0)
        self._capacity = len(self._map) - _HEAD_BYTES
        # [1] written by the reader alone, but for an empty ring.
        self._read = np.frombuffer(self._map, np.uint64, 1)
        # [numbers] written by the writer alone.
        self._board = np.frombuffer(self._map, np.float64, _BOARD, 64)
        self._bytes = np.frombuffer(self._map, np.uint8, self._capacity, _HEAD_BYTES)
        self._written = int(self._read[0])

    @staticmethod
    def memory(capacity_bytes: int) -> int:
        """Makes memory for a ring, and returns its descriptor."""
        fd = os.memfd_create("rankport", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, _HEAD_BYTES + capacity_bytes)
        except BaseException:
            os.close(fd)
            raise
        return fd

    @property
    def capacity_bytes(self) -> int:
        """Bytes of it."""
        return self._capacity

    def write(self, parts: "list[NDArray[np.uint8]]") -> int | None:
        """Writes bytes, at least one, behind each other, and returns their place; None if there is no room now."""
        size = sum(part.nbytes for part in parts)
        place = self._room(size)
        if place is None:
            return None
        at = place % self._capacity
        for part in parts:
            self._bytes[at : at + part.nbytes] = part
            at += part.nbytes
        self._written = place + _aligned(size)
        return place

    def take(self, place: int, size: int) -> NDArray[np.uint8]:
        """Copies the bytes at a place, the next one to be read, which are free then."""
        at = place % self._capacity
        copy = self._bytes[at : at + size].copy()
        self._read[0] = place + _aligned(size)
        return copy

    def post(self, numbers: Sequence[float]) -> None:
        """Writes up to 16 numbers where the reader can see them at any time, over those before."""
        self._board[: len(numbers)] = numbers

    def posted(self) -> list[float]:
        """Reads the numbers that were posted last, 0 where none was; of two posts in a row it may see some of each."""
        numbers: list[float] = self._board.tolist()
        return numbers

    def close(self) -> None:
        """Gives the memory back, as far as this end has it. Nothing is written or read any more."""
        del self._read, self._board, self._bytes
        self._map.close()

    def _room(self, size: int) -> int | None:
        read, needed = int(self._read[0]), _aligned(size)
        if (
            read == self._written
        ):  # begun anew while it is empty, so that little of the memory is ever touched
            place = -(-self._written // self._capacity) * self._capacity
            self._read[0] = read = place
        else:
            left = self._capacity - self._written % self._capacity
            place = self._written if needed <= left else self._written + left
        return place if place + needed - read <= self._capacity else None


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
