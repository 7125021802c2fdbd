"""`SequencePool`: KV of the sequences that are being written, a row each of arrays that all share, and their states.

A pass reads the arrays as they lie, or writes in them: no KV is copied to write one token more, but when they grow.
Behind a sequence its row holds numbers, whatever lay there before: what has no weight must still be finite.
Once no sequence is left, arrays that are much larger than those since the last such moment needed are made smaller.
States of recurrent layers, which each step makes anew, are `StateRows`'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.layouts.kept import KeptState
from rankport.runtime.backends.ort.host_kv import Array, HostKV, past_names
from rankport.runtime.backends.ort.states import StateRows
from rankport.runtime.bundle.manifest import LayerKV

_STEP = 64  # tokens by which rows are made longer, at least
_SPARE = 4  # times as much room as is needed is too much


@dataclass(slots=True, eq=False)
class HostSequence:
    """One sequence. Implements `SequenceKV`."""

    row: int
    length: int  # tokens covered

    @property
    def nbytes(self) -> int:
        """Counts nothing: the pool holds its bytes."""
        return 0


class Place(NamedTuple):
    """Memory of the pool that a step of its first rows reads and writes."""

    grown: int  # times that the arrays were made anew
    rows: int
    turn: int  # of states


class SequencePool:
    """Rows of keys, values and states, the first `used` of which are sequences. Driven by one thread."""

    def __init__(self, widths: Sequence[LayerKV], of: str = "past", states: Sequence[KeptState] = ()) -> None:
        """Makes an empty pool, whose arrays of KV are inputs called `of`."""
        shapes = [(width.kv_heads, width.head_dim) for width in widths for _ in ("key", "value")]
        self._names, self._new_names = past_names(len(widths), of), past_names(len(widths), "new")
        self._arrays = [np.zeros((0, heads, 0, dim), np.float32) for heads, dim in shapes]
        self._states = StateRows(states)
        self._sequences: list[HostSequence] = []  # by row
        self._grown = 0  # times that the arrays were made anew
        self._written = np.zeros(0, np.int64)  # [rows] tokens of each that may be other than 0
        self._needed = (0, 0)  # rows and tokens, since there was no sequence

    @property
    def nbytes(self) -> int:
        """Host bytes held."""
        return sum(array.nbytes for array in self._arrays) + self._states.nbytes

    def begin(self, pieces: Sequence[HostKV]) -> HostSequence:
        """Takes a row and copies the KV of a prefix into it, and the states that it ends in."""
        sequence = HostSequence(len(self._sequences), sum(piece.length for piece in pieces))
        self._make_room(sequence.row + 1, sequence.length + 1)
        for place, array in enumerate(self._arrays):
            start = 0
            for piece in pieces:
                array[sequence.row, :, start : start + piece.length] = piece.layers[place][0]
                start += piece.length
            array[sequence.row, :, start : self._written[sequence.row]] = 0
        self._written[sequence.row] = sequence.length
        self._states.begin(sequence.row, pieces)
        self._sequences.append(sequence)
        return sequence

    def end(self, sequence: HostSequence) -> None:
        """Gives a row back; the last one takes its place."""
        last = self._sequences.pop()
        if last is sequence:
            if not self._sequences:
                self._make_smaller()
            return
        longest = self._written[[last.row, sequence.row]].max()  # what is behind the last one too
        self._written[sequence.row] = longest
        for array in self._arrays:
            array[sequence.row, :, :longest] = array[last.row, :, :longest]
        self._states.copy(last.row, sequence.row)
        last.row = sequence.row
        self._sequences[last.row] = last

    def reorder(self, sequences: Sequence[HostSequence], parents: NDArray[np.int64]) -> None:
        """Puts in the place of each of some sequences of one length what its parent, among them, is."""
        moved = [place for place, parent in enumerate(parents.tolist()) if place != parent]
        if not moved:
            return
        rows = np.array([sequence.row for sequence in sequences])
        length = sequences[0].length
        for array in self._arrays:
            array[rows[moved], :, :length] = array[rows[parents[moved]], :, :length]
        self._states.copy(rows[parents[moved]], rows[moved])

    def past(self, sequences: Sequence[HostSequence], *, cut: bool = False) -> dict[str, Array]:
        """Gives the past of sequences in the order of their rows, by input: each [rows, heads, room, head_dim].

        Behind the longest is room for a token; `cut` leaves the rest out where it is most of a row, for a graph that
        reads all of them. Of the first sequences it is the pool's own memory, unless it is cut, else a copy. States
        follow, each [rows, ...]; of all sequences they are the pool's own memory, else a copy.
        """
        self._make_room_behind(sequences)
        rows = [sequence.row for sequence in sequences]
        room, needed = self._arrays[0].shape[2], _whole_steps(self._longest(sequences) + 1)
        if cut and room > _SPARE * needed:
            arrays = [array[rows, :, :needed] for array in self._arrays]
        elif _are_first(sequences):
            arrays = [array[: len(rows)] for array in self._arrays]
        else:
            arrays = [array[rows] for array in self._arrays]
        states = self._states.first(len(rows)) if self._are_all(sequences) else self._states.read(rows)
        return dict(zip([*self._names, *self._states.names], [*arrays, *states], strict=True))

    def place(self, sequences: Sequence[HostSequence]) -> Place | None:
        """Says where what `past` and `new` give lies: the same place is the same memory; None of a copy."""
        self._make_room_behind(sequences)
        is_own = self._are_all(sequences) if self._states else _are_first(sequences)
        return Place(self._grown, len(sequences), self._states.turn) if is_own else None

    def new(self, sequences: Sequence[HostSequence], past: Mapping[str, Array]) -> dict[str, Array]:
        """Gives memory for what a step that writes in its `past` gives, by output: that of KV is the past's own."""
        if self._are_all(sequences):
            states = self._states.other(len(sequences))
        else:
            states = self._states.read([sequence.row for sequence in sequences])
        names = [*self._new_names, *self._states.new_names]
        return dict(zip(names, [*(past[name] for name in self._names), *states], strict=True))

    def append(self, sequences: Sequence[HostSequence], new: Sequence[NDArray[np.float32]]) -> None:
        """Puts a token behind each sequence, given what follows `past`, in its order.

        Of keys and values [sequences, heads, 1, dim], and states [sequences, ...].
        """
        rows = [sequence.row for sequence in sequences]
        lengths = [sequence.length for sequence in sequences]
        tokens, states = new[: len(self._arrays)], new[len(self._arrays) :]
        for array, token in zip(self._arrays, tokens, strict=True):
            array[rows, :, lengths] = token[:, :, 0]
        self._states.write(rows, states)
        self._lengthen(sequences)

    def take(self, sequences: Sequence[HostSequence], new: Mapping[str, Array] | None = None) -> None:
        """Takes the token that a step wrote behind each; of a copy, out of what the step's `new` was."""
        if new is None:
            self._states.swap()
        else:
            rows = [sequence.row for sequence in sequences]
            lengths = [sequence.length for sequence in sequences]
            for array, name in zip(self._arrays, self._new_names, strict=True):
                array[rows, :, lengths] = new[name][range(len(rows)), :, lengths]
            self._states.write(rows, [new[name] for name in self._states.new_names])
        self._lengthen(sequences)

    def _lengthen(self, sequences: Sequence[HostSequence]) -> None:
        for sequence in sequences:
            sequence.length += 1

    def _are_all(self, sequences: Sequence[HostSequence]) -> bool:
        return len(sequences) == len(self._sequences) and _are_first(sequences)

    def _make_room_behind(self, sequences: Sequence[HostSequence]) -> None:
        """Makes room for a token of each, which the step may write."""
        self._make_room(len(self._sequences), self._longest(sequences) + 1)
        for sequence in sequences:
            self._written[sequence.row] = max(self._written[sequence.row], sequence.length + 1)

    def _longest(self, sequences: Sequence[HostSequence]) -> int:
        return max(sequence.length for sequence in sequences)

    def _make_room(self, rows: int, tokens: int) -> None:
        """Makes the arrays hold so many rows of so many tokens; what grows, grows by half at least."""
        had_rows, _, had_tokens, _ = self._arrays[0].shape
        self._needed = max(self._needed[0], rows), max(self._needed[1], tokens)
        if rows <= had_rows and tokens <= had_tokens:
            return
        if rows > had_rows:
            rows = max(rows, had_rows + had_rows // 2)
        if tokens > had_tokens:
            tokens = max(_whole_steps(tokens), had_tokens + had_tokens // 2)
        self._make(max(rows, had_rows), max(tokens, had_tokens))

    def _make_smaller(self) -> None:
        """Gives memory back that none of the sequences needed since the last time that there was none."""
        had_rows, _, had_tokens, _ = self._arrays[0].shape
        rows, tokens = self._needed[0], _whole_steps(self._needed[1])
        self._needed = (0, 0)
        if had_rows * had_tokens > _SPARE * rows * tokens:
            self._make(rows, tokens)

    def _make(self, rows: int, tokens: int) -> None:
        """Makes arrays of that size, which hold what the sequences have."""
        self._grown += 1
        used = len(self._sequences)
        written = int(self._written[:used].max(initial=0))
        self._written = np.pad(self._written[:used], (0, rows - used))
        self._states.grow(rows, used)
        for place, array in enumerate(self._arrays):
            _, heads, _, dim = array.shape
            grown = np.zeros((rows, heads, tokens, dim), np.float32)
            grown[:used, :, :written] = array[:used, :, :written]
            self._arrays[place] = grown


def _whole_steps(tokens: int) -> int:
    return -(-tokens // _STEP) * _STEP


def _are_first(sequences: Sequence[HostSequence]) -> bool:
    return all(sequence.row == row for row, sequence in enumerate(sequences))
