"""`DeviceStates`: states of recurrent layers of sequences that are being written, a row each of a block on a device.

A step reads the states of all sequences in one block and writes them to another of the same form, which then change
places: no state is copied, and a step that fails leaves every state as it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rankport.runtime.backends.contract import PrefixPieces
from rankport.runtime.backends.devices.graph import DeviceArray
from rankport.runtime.backends.devices.memory import Buffer, DeviceMemory
from rankport.runtime.backends.devices.resident.kv import KVLayout, KVPieces, Place
from rankport.runtime.backends.layouts.kept import KeptState, KeptTensor


class DeviceStates:
    """Rows of each state. Driven by one thread; without states it holds, and does, nothing."""

    def __init__(self, kept: Sequence[KeptTensor], states: Sequence[KeptState], memory: DeviceMemory) -> None:
        """Makes no rows. `kept` is what handles of prefixes hold before their states."""
        self._layout, self._memory = KVLayout(kept, states), memory
        self._pieces = KVPieces(self._layout, memory)
        in_order = [tensor for tensor in self._layout.tensors if isinstance(tensor, KeptState)]
        self._names = {"past": [state.past for state in in_order], "new": [state.new for state in in_order]}
        self.turn = 0  # which of the two blocks the next step reads
        self._rows = 0
        self._buffers: tuple[Buffer, Buffer] | None = None
        self._known: dict[tuple[str, int, int], Mapping[str, DeviceArray]] = {}

    def __bool__(self) -> bool:
        return not self._layout.splits

    @property
    def places(self) -> tuple[int, ...]:
        """Numbers that say where what a step reads and what it writes lie, which change places."""
        if self._buffers is None:
            return ()
        return self._block(0).pointer, self._block(1).pointer, self._rows

    def grow(self, rows: int, used: int) -> None:
        """Makes room for so many rows, of which the first `used` keep what they hold.

        Raises BackendError when the device has no more memory, and leaves all as it was.
        """
        if not self or rows <= self._rows:
            return
        nbytes = self._layout.nbytes(rows, 0)
        buffers = self._memory.allocate(nbytes), self._memory.allocate(nbytes)
        for buffer in buffers:  # rows that no sequence has are computed too
            self._memory.clear(buffer.pointer, nbytes)
        if used:
            target = Place(buffers[self.turn].pointer, rows, 0)
            self._layout.move_states(self._memory, self._block(0), target, rows=used)
        self._buffers, self._rows = buffers, rows
        self._known.clear()

    def begin(self, row: int, pieces: PrefixPieces) -> None:
        """Puts what a prefix ends in into a row: zeros, where there is none."""
        if not self:
            return
        block = replace(self._block(0), row=row)
        if pieces:
            self._pieces.put_states(pieces, block)
            return
        for array in self._arrays(block.pointer):
            row_bytes = array.nbytes // self._rows
            self._memory.clear(array.pointer + row * row_bytes, row_bytes)

    def move(self, source: int, target: int) -> None:
        """Copies a row to another."""
        if self:
            block = self._block(0)
            here, there = replace(block, row=source), replace(block, row=target)
            self._layout.move_states(self._memory, here, there)

    def past(self, rows: int) -> Mapping[str, DeviceArray]:
        """Gives what a step of the first `rows` reads, by input: each [rows, ...]."""
        return self._named("past", 0, rows)

    def new(self, rows: int) -> Mapping[str, DeviceArray]:
        """Gives where such a step writes, by output: `swap` has it read from then on."""
        return self._named("new", 1, rows)

    def swap(self) -> None:
        """Takes what a step of all sequences wrote."""
        self.turn = 1 - self.turn if self else 0

    def release(self) -> None:
        """Gives both blocks back."""
        self._known.clear()
        self._buffers, self._rows = None, 0

    def _block(self, other: int) -> Place:
        """Gives the block that is read, or the `other` one."""
        assert self._buffers is not None
        return Place(self._buffers[self.turn ^ other].pointer, self._rows, 0)

    def _named(self, form: str, other: int, rows: int) -> Mapping[str, DeviceArray]:
        if not self:
            return {}
        pointer = self._block(other).pointer
        known = self._known.get((form, pointer, rows))
        if known is None:
            arrays = (replace(array, shape=(rows, *array.shape[1:])) for array in self._arrays(pointer))
            known = dict(zip(self._names[form], arrays, strict=True))
            self._known[form, pointer, rows] = known
        return known

    def _arrays(self, pointer: int) -> list[DeviceArray]:
        names = self._names["past"]
        return list(self._layout.arrays(pointer, self._rows, 0))[-len(names) :]
