"""`StateRows`: states of the recurrent layers of sequences that are being written, a row each.

A step that all sequences take part in reads one array of a state and writes another, which then change places: no state
is copied, and a step that fails leaves every state as it was.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.layouts.kept import KeptState
from rankport.runtime.backends.ort.host_kv import Array, HostKV


class StateRows:
    """Rows of each state. Driven by one thread; without states it holds, and does, nothing."""

    def __init__(self, kept: Sequence[KeptState]) -> None:
        """Makes no rows."""
        self.names = [state.past for state in kept]
        self.new_names = [state.new for state in kept]
        self.turn = 0  # which of the two arrays the next step reads
        self._arrays = tuple([np.zeros((0, *state.shape), np.float32) for state in kept] for _ in range(2))

    def __bool__(self) -> bool:
        return bool(self.names)

    @property
    def nbytes(self) -> int:
        """Host bytes held."""
        return sum(array.nbytes for arrays in self._arrays for array in arrays)

    def grow(self, rows: int, used: int) -> None:
        """Makes room for so many rows, of which the first `used` keep what they hold."""
        for arrays in self._arrays:
            for place, array in enumerate(arrays):
                grown = np.zeros((rows, *array.shape[1:]), np.float32)
                grown[:used] = array[:used]
                arrays[place] = grown

    def begin(self, row: int, pieces: Sequence[HostKV]) -> None:
        """Puts what a prefix ends in into a row: zeros, where there is none."""
        for place, array in enumerate(self._read):
            array[row] = pieces[-1].states[place][0] if pieces else 0.0

    def copy(self, sources: Array | int, rows: Array | int) -> None:
        """Copies rows to other rows."""
        for array in self._read:
            array[rows] = array[sources]

    def first(self, count: int) -> list[NDArray[np.float32]]:
        """Gives the first rows: memory that a step reads."""
        return [array[:count] for array in self._read]

    def other(self, count: int) -> list[NDArray[np.float32]]:
        """Gives memory for what the first rows become: `swap` has it read from then on."""
        return [array[:count] for array in self._arrays[1 - self.turn]]

    def swap(self) -> None:
        """Takes what a step wrote of all rows."""
        self.turn = 1 - self.turn

    def read(self, rows: Sequence[int]) -> list[NDArray[np.float32]]:
        """Copies some rows."""
        return [array[rows] for array in self._read]

    def write(self, rows: Sequence[int], states: Sequence[Array]) -> None:
        """Puts states into some rows."""
        for array, new in zip(self._read, states, strict=True):
            array[rows] = new

    @property
    def _read(self) -> list[NDArray[np.float32]]:
        return self._arrays[self.turn]
