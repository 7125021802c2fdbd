"""The inputs of one pass as a device takes them: every array, at sizes that come again.

Owns the two forms that graphs have: packed tokens with slots, and the rectangle of graphs for CUDA. What is padding is
computed and read by nobody.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import RaggedBatch
from rankport.runtime.backends.layouts.packed import PackedInputs, pack
from rankport.runtime.backends.layouts.rectangle import Shape, rectangle
from rankport.runtime.backends.layouts.sizes import Sizes, lines, rounded
from rankport.runtime.bundle.manifest import Target

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class HostArray:
    """A graph input before it is copied: `parts` one after the other in the first places of `shape`, then `filling`."""

    shape: tuple[int, ...]
    parts: tuple[Array, ...]
    filling: float = 0

    @property
    def dtype(self) -> "np.dtype[np.generic]":
        """Of all parts."""
        return self.parts[0].dtype

    @property
    def nbytes(self) -> int:
        """Of the whole shape."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def write(self, whole: Array) -> None:
        """Into an array of the shape."""
        if len(self.parts) > 1:
            count = sum(len(part) for part in self.parts)
            np.concatenate(self.parts, out=whole[:count])
            whole[count:] = self.filling
            return
        (corner,) = self.parts
        if whole.shape != corner.shape:
            whole[...] = self.filling
        whole[tuple(slice(size) for size in corner.shape)] = corner


@dataclass(frozen=True, slots=True)
class DevicePass:
    """One pass: its sizes, padding included, and its inputs by name, without the past KV."""

    key: Hashable  # equal for passes of equal shapes
    prefixes: int
    past: int
    slots: int  # of new KV, of each prefix; a prefix's own tokens come first
    items_total: int
    arrays: dict[str, HostArray]


LayOut = Callable[[RaggedBatch], DevicePass]


def layout_of(target: Target, hidden: int, resident_rows: int = 0) -> LayOut:
    """The form that graphs of a target take. Where tokens are resident, others' rows follow theirs in the input."""
    if target == "onnx-cuda":
        return partial(rectangular_pass, hidden=hidden, resident_rows=resident_rows)
    assert not resident_rows, "graphs of packed tokens take embeddings with each pass"
    return partial(packed_pass, hidden=hidden)


def packed_pass(batch: RaggedBatch, hidden: int) -> DevicePass:
    """See `layouts.packed`."""
    packed = pack(batch)
    to = Sizes.of(packed).rounded_up()
    embeddings = np.zeros((1, hidden), np.float32) if packed.embeddings is None else packed.embeddings
    arrays = {
        "input_ids": HostArray((to.tokens,), (packed.input_ids,)),
        "position_ids": HostArray((to.tokens,), (packed.position_ids,)),
        "token_slots": HostArray((to.tokens,), (_moved(packed, to),)),
        "slots": HostArray((to.prefixes, to.items, to.item_tokens), (packed.slots,)),
        "past_lengths": HostArray((to.prefixes,), (packed.past_lengths,)),
        "last_tokens": HostArray((to.items_total,), (packed.last_tokens,)),
        "embeddings": HostArray((to.embedding_count, hidden), (embeddings,)),
        "embedding_rows": HostArray((to.tokens,), (packed.embedding_rows,), -1),
    }
    return DevicePass(to, to.prefixes, to.past, to.items * to.item_tokens, to.items_total, arrays)


def _moved(packed: PackedInputs, to: Sizes) -> NDArray[np.int64]:
    """Flat slots of the tokens in the padded layout."""
    _, items, item_tokens = packed.slots.shape
    prefix, rest = np.divmod(packed.token_slots, items * item_tokens)
    item, token = np.divmod(rest, item_tokens)
    moved: NDArray[np.int64] = (prefix * to.items + item) * to.item_tokens + token
    return moved


def rectangular_pass(batch: RaggedBatch, hidden: int, resident_rows: int = 0) -> DevicePass:
    """See `layouts.rectangle`. Where tokens are resident, `embeddings` are there only if some have to be sent."""
    made = rectangle(batch, resident_rows)
    size = bucket(made.shape)
    arrays = {name: HostArray(array.shape, (array,)) for name, array in made.inputs(size).items()}
    rows: tuple[Array, ...] = made.embeddings or (np.zeros((1, hidden), np.float32),)
    if made.embeddings or not resident_rows:
        arrays["embeddings"] = HostArray((size.embedding_count, hidden), rows)
    if resident_rows:
        size = replace(size, embedding_count=0)  # the graph reads the whole table, however many
    slots = size.rows * size.row_tokens
    return DevicePass(size, size.prefixes, size.past, slots, size.items_total, arrays)


def bucket(shape: Shape) -> Shape:
    """The sizes that hold these. Prefixes are never empty: a device need not know empty products."""
    return Shape(
        rounded(shape.prefixes),
        rounded(shape.rows),
        lines(shape.row_tokens),
        lines(shape.past),
        rounded(shape.items_total),
        rounded(shape.embedding_count),
    )
