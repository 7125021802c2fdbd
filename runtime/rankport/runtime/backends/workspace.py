"""What a device backend keeps between passes: regions of device memory, host memory in turn, and recorded shapes."""

from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.device_memory import Buffer, DeviceMemory

_GROWTH = 1.25


class Region:
    """Device memory that grows to the largest pass, so that equal passes find it at equal addresses."""

    def __init__(self, memory: DeviceMemory) -> None:
        self._memory = memory
        self._buffer: Buffer | None = None

    @property
    def pointer(self) -> int:
        """Where it starts; moves when it grows."""
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
        """The next piece. [nbytes]"""
        self._turn = (self._turn + 1) % len(self._pieces)
        done, self._done[self._turn] = self._done[self._turn], None
        if done is not None:
            done()
        if self._pieces[self._turn].nbytes < nbytes:
            self._pieces[self._turn] = self._memory.staging(int(nbytes * _GROWTH))
        return self._pieces[self._turn][:nbytes]

    def sent(self) -> None:
        """The copy of the last piece is enqueued: it may be filled again when that is done."""
        self._done[self._turn] = self._memory.mark()


class Recordings:
    """Numbers for passes that come again with equal shapes at equal addresses."""

    def __init__(self, after: int = 2, most: int = 64) -> None:
        self._after, self._most = after, most
        self._seen: dict[tuple[str, Hashable, tuple[int, ...]], int] = {}
        self._numbers: dict[tuple[str, Hashable, tuple[int, ...]], int] = {}

    def number(self, role: str, sizes: Hashable, addresses: tuple[int, ...]) -> int | None:
        """Of a pass that was seen `after` times before; None while it is rare, or where `most` are numbered."""
        key = (role, sizes, addresses)
        if key in self._numbers:
            return self._numbers[key]
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] <= self._after or len(self._numbers) >= self._most:
            return None
        del self._seen[key]
        self._numbers[key] = len(self._numbers)
        return self._numbers[key]
