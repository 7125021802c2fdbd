"""Memory that a device backend keeps between passes: device memory, host memory in turn, recorded shapes."""

import itertools
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import RecordingCounts
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


_MOST_RARE = 4096


@dataclass(slots=True)
class _OfRole:
    """Passes of a role at the addresses it has now, as far as they are known."""

    addresses: tuple[int, ...]
    seen: dict[Hashable, int] = field(default_factory=dict)
    numbers: dict[Hashable, int] = field(default_factory=dict)


class Recordings:
    """Numbers for passes that come again with equal shapes at equal addresses, and the count of what became of them."""

    def __init__(self, after: int = 2, most: int = 160) -> None:
        self._after, self._most = after, most
        self._at_once = False
        self._next = itertools.count()
        self._roles: dict[str, _OfRole] = {}
        self._recorded: set[int] = set()
        self._launched = self._replayed = 0
        self._recording_s = 0.0

    @property
    def counts(self) -> RecordingCounts:
        """Counts of the passes so far; any thread may ask."""
        return RecordingCounts(self._launched, len(self._recorded), self._replayed, self._recording_s)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Numbers passes that come within the block the first time."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    @contextmanager
    def counted(self, number: int | None) -> Iterator[None]:
        """Counts the pass that the block starts by its number. One that fails counts for nothing."""
        begun = time.perf_counter()
        yield
        if number is None:
            self._launched += 1
        elif number in self._recorded:
            self._replayed += 1
        else:
            self._recorded.add(number)
            self._recording_s += time.perf_counter() - begun

    def number(self, role: str, sizes: Hashable, addresses: tuple[int, ...]) -> int | None:
        """Numbers a pass that was seen `after` times before, or `at_once`; None if it is rare, or `most` are numbered.

        No number is given twice: what was recorded at addresses that are left behind is never replayed.
        """
        known = self._roles.get(role)
        if known is None or known.addresses != addresses:
            known = self._roles[role] = _OfRole(addresses)
        if sizes in known.numbers:
            return known.numbers[sizes]
        if len(known.seen) >= _MOST_RARE:
            known.seen.clear()
        known.seen[sizes] = known.seen.get(sizes, 0) + 1
        rare = known.seen[sizes] <= self._after and not self._at_once
        if rare or len(known.numbers) >= self._most:
            return None
        del known.seen[sizes]
        known.numbers[sizes] = next(self._next)
        return known.numbers[sizes]
