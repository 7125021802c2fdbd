"""KV of prefixes in host memory, as graphs on the CPU give and take it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixPieces
from rankport.runtime.backends.layouts.kept import KeptState, KeptTensor

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class HostKV:
    """Keys and values of consecutive prefix tokens in host memory."""

    # Key 0, value 0, key 1, ..., as a graph gives them: each [1, kv_heads, length, head_dim].
    layers: tuple[NDArray[np.float32], ...]
    states: tuple[NDArray[np.float32], ...] = ()  # that recurrent layers end in: each [1, ...]

    @property
    def length(self) -> int:
        """Tokens covered."""
        return int(self.layers[0].shape[2])

    @property
    def nbytes(self) -> int:
        """Host bytes held."""
        return sum(array.nbytes for array in (*self.layers, *self.states))


def past_names(layers: int, of: str = "past") -> list[str]:
    """Names the inputs of past keys and values, or `of` others: key 0, value 0, key 1, ..."""
    return [f"{of}_{part}.{layer}" for layer in range(layers) for part in ("key", "value")]


def joined_past(
    batch_prefixes: Sequence[PrefixPieces], lengths: NDArray[np.int64], kept: Sequence[KeptTensor]
) -> dict[str, Array]:
    """Joins what prefixes keep, each [prefixes, heads, past, width], padded at the end."""
    prefixes = cast(Sequence[tuple[HostKV, ...]], batch_prefixes)
    if len(prefixes) == 1 and len(prefixes[0]) == 1:
        arrays = prefixes[0][0].layers
        return {tensor.past: array for tensor, array in zip(kept, arrays, strict=True)}
    past = int(lengths.max())
    result: dict[str, Array] = {}
    for i, tensor in enumerate(kept):
        layer = np.zeros((len(prefixes), tensor.heads, past, tensor.width), np.float32)
        for row, pieces in zip(layer, prefixes, strict=True):
            start = 0
            for piece in pieces:
                row[:, start : start + piece.length] = piece.layers[i][0]
                start += piece.length
        result[tensor.past] = layer
    return result


def joined_states(batch_prefixes: Sequence[PrefixPieces], kept: Sequence[KeptState]) -> dict[str, Array]:
    """Joins the states that prefixes end in, each [prefixes, ...]: of the last piece, zeros where there is none."""
    prefixes = cast(Sequence[tuple[HostKV, ...]], batch_prefixes)
    result: dict[str, Array] = {}
    for i, state in enumerate(kept):
        nothing = np.zeros((1, *state.shape), np.float32)
        ends = [pieces[-1].states[i] if pieces else nothing for pieces in prefixes]
        result[state.past] = ends[0] if len(ends) == 1 else np.concatenate(ends)
    return result
