"""KV of prefixes in host memory, as graphs on the CPU give and take it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixPieces
from rankport.runtime.bundle.manifest import LayerKV

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class HostKV:
    """Keys and values of consecutive prefix tokens in host memory."""

    layers: tuple[
        NDArray[np.float32], ...
    ]  # key 0, value 0, key 1, ...: each [1, kv_heads, length, head_dim]

    @property
    def length(self) -> int:
        """Tokens covered."""
        return int(self.layers[0].shape[2])

    @property
    def nbytes(self) -> int:
        """Host bytes held."""
        return sum(layer.nbytes for layer in self.layers)


def past_names(layers: int, of: str = "past") -> list[str]:
    """Names the inputs of past keys and values, or `of` others: key 0, value 0, key 1, ..."""
    return [f"{of}_{part}.{layer}" for layer in range(layers) for part in ("key", "value")]


def joined_past(
    batch_prefixes: Sequence[PrefixPieces], lengths: NDArray[np.int64], widths: Sequence[LayerKV]
) -> dict[str, Array]:
    """Joins each layer's past keys and values, [prefixes, kv_heads, past, head_dim], padded at the end."""
    prefixes = cast(Sequence[tuple[HostKV, ...]], batch_prefixes)
    names = past_names(len(widths))
    if len(prefixes) == 1 and len(prefixes[0]) == 1:
        return dict(zip(names, prefixes[0][0].layers, strict=True))
    past = int(lengths.max())
    result: dict[str, Array] = {}
    for i, (name, width) in enumerate(
        zip(names, itertools.chain(*zip(widths, widths, strict=True)), strict=True)
    ):
        layer = np.zeros((len(prefixes), width.kv_heads, past, width.head_dim), np.float32)
        for row, pieces in zip(layer, prefixes, strict=True):
            start = 0
            for piece in pieces:
                row[:, start : start + piece.length] = piece.layers[i][0]
                start += piece.length
        result[name] = layer
    return result
