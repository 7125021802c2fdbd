"""`RowSlots`: which rows of one table lie in a block of a device, and where those go that a pass lacks."""

import mmap
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]

ZEROS = -1
"""Row that is all zeros, of whatever table: it has the first slot."""
_FIRST = 2


class RowSlots:
    """Slots of a block, written round and round: the rows that were written longest ago give way. One thread drives it.

    Rows that a pass lacks are written beside each other, by one copy. Those that it has and that would be written over
    are written anew among them, so that a pass never loses what it reads.
    """

    def __init__(self, rows: int, slots: int) -> None:
        """Takes the rows of the table, and the slots, of which the first is of zeros."""
        assert 1 < slots <= rows + 1, (slots, rows)
        # Of a row, right where `_row_in` says so too; the last is of `ZEROS`.
        self._slot_of = _sparse(rows + 1, np.dtype(np.int32))
        # By slot, as numbers from `_FIRST` on: what was never written is zero.
        narrow = rows + _FIRST <= np.iinfo(np.int32).max
        self._row_in = _sparse(slots, np.dtype(np.int32 if narrow else np.int64))
        self._row_in[0] = ZEROS + _FIRST
        self._next = self._end = 1

    def __len__(self) -> int:
        """Counts the rows that lie in the block."""
        return self._end - 1

    def missing(self, rows: Whole) -> Whole:
        """Picks the rows that are not there. A guess where another thread places rows meanwhile."""
        missing: Whole = rows[self._row_in[self._slot_of[rows]] != rows + _FIRST]
        return missing

    def place(self, rows: Whole, write: Callable[[int, Whole], None]) -> NDArray[np.int32]:
        """Finds the slot of each row, after `write(first slot, rows)` of those to be written, where there are some.

        What `write` raises is raised; the slots that it was to write are empty then.
        """
        slots = self._slot_of[rows]
        there = self._row_in[slots] == rows + _FIRST
        if there.all():
            return slots
        first, written = self._room(np.unique(rows[~there]), slots[there])
        end = first + len(written)
        self._row_in[first:end] = 0
        write(first, written)
        self._row_in[first:end] = written + _FIRST
        self._slot_of[written] = np.arange(first, end)
        self._next, self._end = end, max(self._end, end)
        return self._slot_of[rows]

    def _room(self, lacking: Whole, used: NDArray[np.int32]) -> tuple[int, Whole]:
        """Finds slots beside each other for rows that are lacking, and for those of the `used` slots among them."""
        for first in (self._next, 1):
            farthest = first + len(lacking) + len(used)
            ahead = np.unique(used[(used >= first) & (used < farthest)])
            # The n-th of them is written over where it comes before the n rows that are so, and the lacking ones.
            over = int(np.searchsorted(ahead - first - np.arange(len(ahead)), len(lacking)))
            if first + len(lacking) + over <= len(self._row_in):
                kept = self._row_in[ahead[:over]].astype(np.int64) - _FIRST
                return first, np.concatenate([lacking, kept])
        raise AssertionError(f"a pass has more rows than {len(self._row_in) - 1} slots")


def _sparse(count: int, dtype: "np.dtype[np.signedinteger]") -> NDArray[np.signedinteger]:
    """Makes zeros that take memory where they are written to, page by page."""
    memory = mmap.mmap(-1, dtype.itemsize * count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(AttributeError, OSError):  # where there are no huge pages, there is nothing to ask for
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype)
