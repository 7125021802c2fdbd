"""`Padded`: texts of one pass beside each other, [items, item tokens], padded at the end."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BundleError
from rankport.runtime.backends.layouts.layout import HostArray
from rankport.runtime.bundle.manifest import GraphSpec
from rankport.runtime.tokens import TokenRuns

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
"""Inputs that a graph of texts may have, each [items, item tokens] int64."""


@dataclass(frozen=True, slots=True)
class Padded:
    """Token ids of some texts, and how many tokens each has. Make it with `pad`."""

    ids: NDArray[np.int64]  # [items, longest], 0 where padded
    lengths: NDArray[np.int64]  # [items]
    seconds: NDArray[np.int64]  # [items] place where the second of two texts begins, or the length

    def inputs(self, items: int, item_tokens: int, names: Collection[str]) -> Mapping[str, HostArray]:
        """Makes the graph inputs of these names, of this many texts.

        Those added have one token, so that attention is defined. Token types are 0 before a second text, 1 in it.
        """
        places = np.arange(item_tokens)[None, :]
        lengths = np.pad(self.lengths, (0, items - len(self.lengths)), constant_values=1)[:, None]
        made = {IDS: HostArray.padded((items, item_tokens), self.ids)}
        if MASK in names:
            mask = (places < lengths).astype(np.int64)
            made[MASK] = HostArray.padded(mask.shape, mask)
        if TYPES in names:
            seconds = np.pad(self.seconds, (0, items - len(self.seconds)), constant_values=1)[:, None]
            types = ((places >= seconds) & (places < lengths)).astype(np.int64)
            made[TYPES] = HostArray.padded(types.shape, types)
        return made

    def cut(self, results: NDArray[np.floating]) -> NDArray[np.floating]:
        """Takes the rows of real tokens, text after text, out of those of a pass. [tokens, ...]"""
        return results[np.arange(results.shape[1])[None, :] < self.lengths[:, None]]


@dataclass(frozen=True, slots=True)
class RowForm:
    """Form of the row that a graph of texts makes of each, or of each of its tokens."""

    name: str  # of the output
    dtype: Literal["float32", "float16"]
    shape: tuple[int, ...]
    of_tokens: bool = False

    @classmethod
    def of(cls, graph: GraphSpec) -> "RowForm":
        """Reads it off the graph's one output, [items, ...] or [items, item_tokens, ...].

        Raises `BundleError` if it has no such rows.
        """
        (output,) = graph.outputs
        of_tokens = output.shape[1:2] == ["item_tokens"]
        axes = 2 if of_tokens else 1
        sizes = tuple(size for size in output.shape[axes:] if isinstance(size, int))
        if len(sizes) + axes != len(output.shape) or output.dtype not in ("float32", "float16"):
            raise BundleError(
                f"{graph.file}: output {output.name!r} is {output.dtype} {output.shape}: rows of a fixed shape in "
                "float32 or float16 are needed"
            )
        return cls(output.name, output.dtype, sizes, of_tokens)

    def padded(self, items: int, item_tokens: int) -> tuple[int, ...]:
        """Gives the shape of the output of a padded pass."""
        return (items, item_tokens, *self.shape) if self.of_tokens else (items, *self.shape)


def pad(texts: TokenRuns) -> Padded:
    """Puts texts beside each other in their order, padded to the longest."""
    lengths = texts.lengths
    ids = np.zeros((len(texts), int(lengths.max())), np.int64)
    ids[np.arange(ids.shape[1])[None, :] < lengths[:, None]] = texts.ids
    return Padded(ids, lengths, lengths if texts.seconds is None else texts.seconds)
