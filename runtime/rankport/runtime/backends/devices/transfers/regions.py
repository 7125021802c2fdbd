"""Memory that passes find again: a region of the device, and host memory that is filled in turn."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.devices.memory import Buffer, DeviceMemory

_GROWTH = 1.25


class Region:
    """Device memory that grows to the largest pass, so that equal passes find it at equal addresses."""

    def __init__(self, memory: DeviceMemory) -> None:
        self._memory = memory
        self._buffer: Buffer | None = None

    @property
    def pointer(self) -> int:
        """Address where it starts; moves when it grows."""
        assert self._buffer is not None
        return self._buffer.pointer

    def hold(self, nbytes: int) -> None:
        """Makes sure it has room; what it held is lost when it grows."""
        if self._buffer is None or self._buffer.nbytes < nbytes:
            self._buffer = None  # freed before the larger one is asked for
            self._buffer = self._memory.allocate(int(nbytes * _GROWTH))

    def release(self) -> None:
        """Gives it back."""
        self._buffer = None


class Ring:
    """Host memory for copies in flight: a piece is filled again only when the device is done with it."""

    def __init__(self, memory: DeviceMemory, pieces: int = 3) -> None:
        self._memory = memory
        self._pieces = [memory.staging(0) for _ in range(pieces)]
        self._done: list[Callable[[], None] | None] = [None] * pieces
        self._turn = -1

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """Takes the next piece, once what `sent` was told of it is done. [nbytes]"""
        self._turn = (self._turn + 1) % len(self._pieces)
        done, self._done[self._turn] = self._done[self._turn], None
        if done is not None:
            done()
        if self._pieces[self._turn].nbytes < nbytes:
            self._pieces[self._turn] = self._memory.staging(int(nbytes * _GROWTH))
        return self._pieces[self._turn][:nbytes]

    def sent(self, done: Callable[[], None] | None = None) -> None:
        """Notes that the copy of the last piece is enqueued: it may be filled after `done`, or after the copy."""
        self._done[self._turn] = done or self._memory.mark()

    def release(self) -> None:
        """Gives the pieces back, for good; those that somebody has yet to read go with their views."""
        self._pieces, self._done = [], []
