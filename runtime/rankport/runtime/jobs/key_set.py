"""`KeySet`: keys that were seen, in few bytes each.

Keeps their BLAKE2b of 16 bytes in a table with open addresses, so that a key takes 23 to 46 bytes whatever its length,
where a set of texts takes a hundred and more. Two keys with one digest do not happen.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_DIGEST_BYTES = 16
_LEAST_SLOTS = 1024  # a power of two, as all sizes
_MOST_FULL = 0.7
_MOVED_AT_ONCE = 65_536
_NOTED_AT_ONCE = 4096


class KeySet:
    """Set of keys; lists are added and asked for at once, as one key by itself would cost as much as a hundred."""

    def __init__(self) -> None:
        self._slots = np.zeros((_LEAST_SLOTS, 2), np.uint64)  # a digest each, or zeros; the first half is odd
        self._count = 0
        self._noted: list[str] = []  # keys that are added with others, later

    def __len__(self) -> int:
        self._add_noted()
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._slots.nbytes

    def add(self, keys: Sequence[str]) -> list[bool]:
        """Adds keys; says of each whether it is new: not there, nor earlier among them."""
        self._add_noted()
        return self._add(keys)

    def note(self, key: str) -> None:
        """Adds a key."""
        self._noted.append(key)
        if len(self._noted) >= _NOTED_AT_ONCE:
            self._add_noted()

    def has(self, keys: Sequence[str]) -> list[bool]:
        """Says of each key whether it is there."""
        self._add_noted()
        there: list[bool] = self._found(_digests(keys))[0].tolist()
        return there

    def _add_noted(self) -> None:
        if self._noted:
            noted, self._noted = self._noted, []
            self._add(noted)

    def _add(self, keys: Sequence[str]) -> list[bool]:
        digests = _digests(keys)
        new = ~self._found(digests)[0]
        places = np.flatnonzero(new)
        if len(np.unique(digests[places, 0])) < len(places):  # seldom: sorting pairs takes longer
            _, firsts = np.unique(digests[places], axis=0, return_index=True)
            places = places[firsts]
        self._grow(len(places))
        self._put(digests[places])
        self._count += len(places)
        new[:] = False
        new[places] = True
        added: list[bool] = new.tolist()
        return added

    def _found(self, digests: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Says which digests are there, and where each is or would be put. [digests]"""
        last = len(self._slots) - 1
        slots = (digests[:, 1] & np.uint64(last)).astype(np.int64)
        found = np.zeros(len(digests), np.bool_)
        pending = np.arange(len(digests))
        while len(pending):
            there = self._slots[slots[pending]]
            same = (there == digests[pending]).all(axis=1)
            found[pending[same]] = True
            pending = pending[~same & (there[:, 0] != 0)]
            slots[pending] = (slots[pending] + 1) & last
        return found, slots

    def _put(self, digests: NDArray[np.uint64]) -> None:
        """Puts digests in that are not there, each of them once."""
        while len(digests):
            _, slots = self._found(digests)
            free, firsts = np.unique(slots, return_index=True)
            self._slots[free] = digests[firsts]
            digests = np.delete(digests, firsts, axis=0)  # of those that meet in a slot one stays

    def _grow(self, more: int) -> None:
        size = len(self._slots)
        while self._count + more > _MOST_FULL * size:
            size *= 2
        if size == len(self._slots):
            return
        before, self._slots = self._slots, np.zeros((size, 2), np.uint64)
        for start in range(0, len(before), _MOVED_AT_ONCE):
            part = before[start : start + _MOVED_AT_ONCE]
            self._put(part[part[:, 0] != 0])


def _digests(keys: Sequence[str]) -> NDArray[np.uint64]:
    """Hashes keys. [keys, 2]"""
    content = b"".join(blake2b(key.encode(), digest_size=_DIGEST_BYTES).digest() for key in keys)
    digests = np.frombuffer(content, "<u8").astype(np.uint64).reshape(-1, 2)
    digests[:, 0] |= np.uint64(1)  # never the zeros of a free slot
    return digests
