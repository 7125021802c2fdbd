"""`DevicePool`: KV of the sequences that are being written, a row each of one block of device memory, and their states.

A pass reads the block where it lies: no KV is copied to write one token more, but that token's own, and all of it when
the block grows. States of recurrent layers, which each step makes anew, are `DeviceStates`'.

The block never becomes smaller: steps are recorded with its address, and recordings stay as long as their graph, up to
160 for each place that the block had.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rankport.runtime.backends.contract import PrefixPieces
from rankport.runtime.backends.devices.graph import DeviceArray
from rankport.runtime.backends.devices.memory import Buffer, DeviceMemory
from rankport.runtime.backends.devices.resident.kv import KVLayout, KVPieces, Place
from rankport.runtime.backends.devices.resident.sequences.states import DeviceStates
from rankport.runtime.backends.layouts.kept import KeptState, KeptTensor
from rankport.runtime.backends.layouts.sizes import rounded

_STEP = 64  # tokens by which rows are made longer, at least


@dataclass(slots=True, eq=False)
class DeviceSequence:
    """One sequence. Implements `SequenceKV`."""

    row: int
    length: int  # tokens covered


class DevicePool:
    """Rows of keys and values, the first of which are sequences. Driven by one thread.

    Behind a sequence its row holds numbers, whatever lay there before: what has no weight must still be finite.
    """

    def __init__(
        self, kept: Sequence[KeptTensor], states: Sequence[KeptState], memory: DeviceMemory, longest: int
    ) -> None:
        """Makes an empty pool for sequences of up to `longest` tokens, which keep what prefixes do."""
        self._layout, self._memory = KVLayout(kept), memory
        self._names = [tensor.past for tensor in kept]
        self._states = DeviceStates(kept, states, memory)
        self._pieces = KVPieces(self._layout, memory)
        self._longest = _whole_steps(longest)
        self._buffer: Buffer | None = None
        self._block = Place(0, 0, 0)
        self._sequences: list[DeviceSequence] = []  # by row
        self._past: dict[int, Mapping[str, DeviceArray]] = {}  # by rows, of the block as it is

    @property
    def places(self) -> tuple[int, ...]:
        """Numbers that say where all that a step reads lies: one that grew may begin where an earlier one did."""
        block = self._block
        return block.pointer, block.prefixes, block.length, *self._states.places

    @property
    def turn(self) -> int:
        """Number of the block of states, 0 or 1, that the next step reads."""
        return self._states.turn

    @property
    def room(self) -> int:
        """Tokens that a row has room for."""
        return self._block.length

    def begin(self, pieces: PrefixPieces) -> DeviceSequence:
        """Takes a row and copies the KV of a prefix into it. Raises BackendError when the device has no more memory."""
        sequence = DeviceSequence(len(self._sequences), sum(piece.length for piece in pieces))
        self._make_room(sequence.row + 1, sequence.length + 1)
        for array in self._layout.arrays(self._block.pointer, self._block.prefixes, self.room):
            row_bytes = array.nbytes // self._block.prefixes
            self._memory.clear(array.pointer + sequence.row * row_bytes, row_bytes)
        self._pieces.put(pieces, replace(self._block, row=sequence.row))
        self._states.begin(sequence.row, pieces)
        self._sequences.append(sequence)
        return sequence

    def end(self, sequence: DeviceSequence) -> None:
        """Gives a row back; the last one takes its place, with what is behind its sequence."""
        last = self._sequences.pop()
        if last is sequence:
            return
        block = self._block
        here, there = replace(block, row=last.row), replace(block, row=sequence.row)
        self._layout.move(self._memory, here, there, block.length)
        self._states.move(last.row, sequence.row)
        last.row = sequence.row
        self._sequences[last.row] = last

    def make_room_behind(self, sequences: Sequence[DeviceSequence]) -> None:
        """Makes room for a token of each. Raises as `begin`."""
        self._make_room(len(self._sequences), max(sequence.length for sequence in sequences) + 1)

    def rows(self, last: int) -> int:
        """Counts the rows of a step whose last is given: with states those of all sequences, as all are made anew."""
        return rounded(len(self._sequences) if self._states else last + 1)

    def past(self, rows: int) -> Mapping[str, DeviceArray]:
        """Gives the first `rows` by input: KV, each [rows, heads, room, width], and states, each [rows, ...]."""
        known = self._past.get(rows)
        if known is None:
            arrays = self._layout.arrays(self._block.pointer, self._block.prefixes, self.room)
            known = self._past[rows] = {
                name: replace(array, shape=(rows, *array.shape[1:]))
                for name, array in zip(self._names, arrays, strict=True)
            }
        return {**known, **self._states.past(rows)} if self._states else known

    def new_states(self, rows: int) -> Mapping[str, DeviceArray]:
        """Gives where a step of the first `rows` writes their states, by output: each [rows, ...]."""
        return self._states.new(rows)

    def append(self, new: Place, sequences: Sequence[DeviceSequence]) -> None:
        """Copies a token from the row of each in a block of a token a row, behind it: `lengthen` counts it."""
        block = self._block
        for first, rows in _beside_each_other(sequences):
            source = Place(new.pointer, new.prefixes, 1, first.row)
            target = Place(block.pointer, block.prefixes, block.length, first.row, first.length)
            self._layout.move(self._memory, source, target, 1, rows=rows)

    def lengthen(self, sequences: Sequence[DeviceSequence]) -> None:
        """Counts the token that a step put behind each, and takes the states that it wrote."""
        self._states.swap()
        for sequence in sequences:
            sequence.length += 1

    def release(self) -> None:
        """Gives the block back, and those of states."""
        self._states.release()
        self._past.clear()
        self._buffer = None

    def _make_room(self, rows: int, tokens: int) -> None:
        """Makes the block hold so many rows of so many tokens; what grows, grows by half at least."""
        had = self._block
        if rows <= had.prefixes and tokens <= had.length:
            return
        if rows > had.prefixes:
            rows = rounded(max(rows, had.prefixes + had.prefixes // 2))
        if tokens > had.length:
            tokens = max(_whole_steps(tokens), min(_whole_steps(had.length + had.length // 2), self._longest))
        rows, tokens = max(rows, had.prefixes), max(tokens, had.length)
        self._states.grow(rows, len(self._sequences))
        buffer = self._memory.allocate(self._layout.nbytes(rows, tokens))
        self._memory.clear(buffer.pointer, buffer.nbytes)
        block = Place(buffer.pointer, rows, tokens)
        if self._sequences:
            self._layout.move(self._memory, had, block, had.length, rows=len(self._sequences))
        self._buffer, self._block = buffer, block
        self._past.clear()


def _whole_steps(tokens: int) -> int:
    return -(-tokens // _STEP) * _STEP


def _beside_each_other(sequences: Sequence[DeviceSequence]) -> Iterator[tuple[DeviceSequence, int]]:
    """Yields the first of those of one length in consecutive rows, and how many they are."""
    first, rows = None, 0
    for sequence in sorted(sequences, key=lambda sequence: sequence.row):
        if first is not None and (sequence.row, sequence.length) == (first.row + rows, first.length):
            rows += 1
            continue
        if first is not None:
            yield first, rows
        first, rows = sequence, 1
    if first is not None:
        yield first, rows
