"""KV on a device: one buffer a run of prefix tokens, and the copies that gather and scatter them.

A handle holds all that a prefix keeps: for each group of consecutive tensors of one width and type, those of many
layers, [tensors, kv_heads, length, head_dim]. The graphs take and give, for each of these, [prefixes, kv_heads, padded
length, head_dim]; as one block for a group, [tensors, prefixes, kv_heads, padded length, head_dim], so that a prefix
moves in one strided copy a group.

States of recurrent layers are of a prefix as a whole: they lie behind its tokens, and those of the last handle are the
prefix's. Of a block they are [prefixes, ...] each, behind the tokens of all.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from rankport.runtime.backends.contract import PrefixKV, PrefixPieces
from rankport.runtime.backends.devices.graph import ITEM_BYTES, DeviceArray
from rankport.runtime.backends.devices.memory import Buffer, DeviceMemory, Side
from rankport.runtime.backends.layouts.kept import KeptState, KeptTensor
from rankport.runtime.bundle.manifest import DType


@dataclass(frozen=True, slots=True)
class DeviceKV:
    """Keys and values of consecutive prefix tokens in device memory. Implements `PrefixKV`."""

    buffer: Buffer
    length: int

    @property
    def nbytes(self) -> int:
        """Device bytes held."""
        return self.buffer.nbytes


@dataclass(frozen=True, slots=True)
class _Group:
    """Consecutive tensors of one width and type."""

    tensors: int
    kv_heads: int
    head_dim: int
    dtype: DType
    row_bytes: int  # of one token of one head
    token_bytes: int  # of one token, all tensors


_ALIGNED = 256  # bytes, as CUDA allocates: kernels read states in wide words


class KVLayout:
    """Places of all that the prefixes of a model keep."""

    def __init__(
        self, kept: Sequence[KeptTensor], states: Sequence[KeptState] = (), *, several: bool = True
    ) -> None:
        """Takes what is kept; graphs that take one prefix, not `several`, have no axis of prefixes."""
        self._first_axis = 0 if several else 1
        self._groups = tuple(_groups(kept))
        self._token_bytes = sum(group.token_bytes for group in self._groups)
        # The largest first: all start where the widest words may.
        states = sorted(states, key=_state_bytes, reverse=True)
        self._states = tuple(states)
        self._state_groups = [
            (size, len(list(group))) for size, group in itertools.groupby(map(_state_bytes, states))
        ]
        self.tensors: tuple[KeptTensor | KeptState, ...] = (*kept, *states)
        """In the order of `arrays`."""

    @property
    def splits(self) -> bool:
        """Says whether a handle can be split: a state is that of all tokens before its end."""
        return not self._states

    def nbytes(self, prefixes: int, length: int) -> int:
        """Counts the bytes of a block for so many prefixes, padded to `length`; of a handle with one."""
        return self._states_from(prefixes, length) + prefixes * self.state_bytes

    @property
    def state_bytes(self) -> int:
        """Bytes of the states of a prefix."""
        return sum(size * count for size, count in self._state_groups)

    def _states_from(self, prefixes: int, length: int) -> int:
        tokens = self._token_bytes * prefixes * length
        return -(-tokens // _ALIGNED) * _ALIGNED if self._states else tokens

    def arrays(self, pointer: int, prefixes: int, length: int) -> Iterator[DeviceArray]:
        """Yields the tensors of a block, in the order of `tensors`: key 0, value 0, key 1, ..., then the states.

        Without an axis of prefixes a block has one.
        """
        states = pointer + self._states_from(prefixes, length)
        for group in self._groups:
            shape = (prefixes, group.kv_heads, length, group.head_dim)
            for _ in range(group.tensors):
                array = DeviceArray(pointer, shape[self._first_axis :], group.dtype)
                yield array
                pointer += array.nbytes
        for state in self._states:
            array = DeviceArray(states, (prefixes, *state.shape), state.dtype)
            yield array
            states += array.nbytes

    def move_states(self, memory: DeviceMemory, source: "Place", target: "Place", *, rows: int = 1) -> None:
        """Copies the states of one prefix, or of that and the next ones, `rows` in all: of all tensors."""
        from_pointer, to_pointer = (
            place.pointer + self._states_from(place.prefixes, place.length) for place in (source, target)
        )
        for size, count in self._state_groups:
            memory.copy(
                Side(from_pointer + source.row * size, size, source.prefixes),
                Side(to_pointer + target.row * size, size, target.prefixes),
                width=size,
                height=rows,
                depth=count,
            )
            from_pointer += size * count * source.prefixes
            to_pointer += size * count * target.prefixes

    def move(
        self,
        memory: DeviceMemory,
        source: "Place",
        target: "Place",
        length: int,
        *,
        rows: int = 1,
    ) -> None:
        """Copies `length` tokens of one prefix, or of that and the next ones, `rows` in all: of all tensors."""
        from_pointer, to_pointer = source.pointer, target.pointer
        for group in self._groups:
            memory.copy(
                _side(group, from_pointer, source),
                _side(group, to_pointer, target),
                width=length * group.row_bytes,
                height=rows * group.kv_heads,
                depth=group.tensors,
            )
            from_pointer += group.token_bytes * source.prefixes * source.length
            to_pointer += group.token_bytes * target.prefixes * target.length


_BLOCKS_KEPT = 64


class NamedKV:
    """Keys and values of blocks by the names of a graph: some sixty arrays, so those of the last blocks are kept."""

    def __init__(self, layout: KVLayout, names: Sequence[str], wanted: frozenset[str]) -> None:
        """Takes the names in the order of `KVLayout.arrays`, and those that the graph has."""
        self._layout, self._names, self._wanted = layout, tuple(names), wanted
        self._kept: dict[tuple[int, int, int], Mapping[str, DeviceArray]] = {}

    def at(self, pointer: int, prefixes: int, length: int) -> Mapping[str, DeviceArray]:
        """Gives the arrays of a block."""
        key = (pointer, prefixes, length)
        known = self._kept.get(key)
        if known is None:
            if len(self._kept) >= _BLOCKS_KEPT:
                self._kept.clear()
            arrays = zip(self._names, self._layout.arrays(*key), strict=True)
            known = self._kept[key] = {name: array for name, array in arrays if name in self._wanted}
        return known


@dataclass(frozen=True, slots=True)
class Place:
    """Tokens of one prefix from `start` on in a block [..., prefixes, kv_heads, length, head_dim]."""

    pointer: int  # of the block
    prefixes: int
    length: int
    row: int = 0
    start: int = 0

    @classmethod
    def of(cls, kv: DeviceKV, start: int = 0) -> "Place":
        """Takes a handle as what it is: a block of one prefix, without padding."""
        return cls(kv.buffer.pointer, 1, kv.length, 0, start)


class KVPieces:
    """Handles of KV in a memory: taken out of blocks, split, and put behind each other in a block."""

    def __init__(self, layout: KVLayout, memory: DeviceMemory) -> None:
        self.layout, self._memory = layout, memory

    def taken(self, block: Place, length: int) -> DeviceKV:
        """Copies the first `length` tokens of a place to a handle of their own, and the states of its prefix."""
        kv = self._empty(length)
        self.layout.move(self._memory, block, Place.of(kv), length)
        self.layout.move_states(self._memory, block, Place.of(kv))
        return kv

    def split(self, kv: PrefixKV, length: int) -> tuple[DeviceKV, DeviceKV]:
        """Splits as `PrefixBackend.split`. Both halves own their memory, so that evicting one frees it."""
        assert isinstance(kv, DeviceKV)
        assert self.layout.splits
        return self.taken(Place.of(kv), length), self.taken(Place.of(kv, length), kv.length - length)

    def put(self, pieces: PrefixPieces, block: Place) -> None:
        """Copies pieces behind each other into a place, and the states that the last ends in."""
        start = block.start
        for piece in cast(tuple[DeviceKV, ...], pieces):
            target = Place(block.pointer, block.prefixes, block.length, block.row, start)
            self.layout.move(self._memory, Place.of(piece), target, piece.length)
            start += piece.length
        if pieces:
            self.put_states(pieces, block)

    def put_states(self, pieces: PrefixPieces, block: Place) -> None:
        """Copies the states that the last of pieces ends in into a place."""
        self.layout.move_states(self._memory, Place.of(cast(DeviceKV, pieces[-1])), block)

    def _empty(self, length: int) -> DeviceKV:
        return DeviceKV(self._memory.allocate(self.layout.nbytes(1, length)), length)


def _side(group: _Group, pointer: int, place: Place) -> Side:
    pitch = place.length * group.row_bytes
    offset = place.row * group.kv_heads * pitch + place.start * group.row_bytes
    return Side(pointer + offset, pitch, place.prefixes * group.kv_heads)


def _state_bytes(state: KeptState) -> int:
    return math.prod(state.shape) * ITEM_BYTES[state.dtype]


def _groups(kept: Sequence[KeptTensor]) -> Iterator[_Group]:
    for (heads, width, dtype), members in itertools.groupby(
        kept, key=lambda tensor: (tensor.heads, tensor.width, tensor.dtype)
    ):
        count, row_bytes = len(list(members)), width * ITEM_BYTES[dtype]
        yield _Group(count, heads, width, dtype, row_bytes, count * heads * row_bytes)
