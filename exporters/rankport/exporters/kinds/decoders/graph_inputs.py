"""The inputs of a ranker's graphs, one class a layout: their names and shapes, and an example to trace with.

Owns the names that the manifest lists and the runtime feeds.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rankport.runtime.backends.layouts.rectangle import ITEM_PLACES
from rankport.runtime.bundle.manifest import LayerKV

Axes = dict[str, list[str | int]]  # input -> shape, in the order of the graph's inputs
Arguments = dict[str, Tensor | list[Tensor]]  # of `forward`, in the same order

_PASTS = (5, 4)
_ITEM_LENGTHS = ((3, 4), (3, 3, 2))
"""Lengths of the example's items, by prefix: no two axes share a size by accident."""


@dataclass(frozen=True, slots=True)
class GraphInputs:
    """Inputs that the layouts share. `hidden` is None for a ranker of text items only."""

    layers: tuple[LayerKV, ...]
    hidden: int | None
    states: int | None = None  # width of the last states, where a prefix keeps them
    carried: tuple[
        tuple[str, tuple[int, ...]], ...
    ] = ()  # by recurrent layers: name, and shape of a prefix's

    def _past_axes(self) -> Axes:
        axes: Axes = {
            f"past_{part}.{layer}": ["prefixes", width.kv_heads, "past", width.head_dim]
            for layer, width in enumerate(self.layers)
            for part in ("key", "value")
        }
        return axes if self.states is None else axes | {"past_states": ["prefixes", 1, "past", self.states]}

    def _past(self) -> list[Tensor]:
        # A size of its own, as a padded one has.
        size = max(_PASTS) + 1
        widths = [(width.kv_heads, width.head_dim) for width in self.layers for _ in ("key", "value")]
        widths += [] if self.states is None else [(1, self.states)]
        return [torch.zeros(len(_PASTS), heads, size, width) for heads, width in widths]

    def _carried_axes(self) -> Axes:
        return {f"past_{name}": ["prefixes", *shape] for name, shape in self.carried}

    def _carried(self) -> list[Tensor]:
        return [torch.zeros(len(_PASTS), *shape) for _, shape in self.carried]


@dataclass(frozen=True, slots=True)
class PackedInputs(GraphInputs):
    """The inputs of `PackedDecoder`."""

    def axes(self) -> Axes:
        """Gives the shape of every graph input, in order."""
        axes: Axes = {
            "input_ids": ["tokens"],
            "position_ids": ["tokens"],
            "slots": ["prefixes", "items", "item_tokens"],
            "token_slots": ["tokens"],
            "past_lengths": ["prefixes"],
            "last_tokens": ["items_total"],
            **self._past_axes(),
            **self._carried_axes(),
        }
        if self.hidden is not None:
            axes |= {"embeddings": ["embedding_count", self.hidden], "embedding_rows": ["tokens"]}
        return axes

    def example(self) -> Arguments:
        """Makes two prefixes of 5 and 4 tokens, with 2 and 3 items of up to 4 tokens."""
        items, length = max(map(len, _ITEM_LENGTHS)), max(map(max, _ITEM_LENGTHS))
        slots = torch.zeros(len(_PASTS), items, length, dtype=torch.int64)
        token_slots: list[int] = []
        positions: list[int] = []
        last: list[int] = []
        for prefix, past in enumerate(_PASTS):
            for item, tokens in enumerate(_ITEM_LENGTHS[prefix]):
                start = len(positions)
                slots[prefix, item, :tokens] = torch.arange(start, start + tokens)
                token_slots += [(prefix * items + item) * length + token for token in range(tokens)]
                positions += [past + token for token in range(tokens)]
                last.append(start + tokens - 1)
        arguments: Arguments = {
            "input_ids": torch.ones(len(positions), dtype=torch.int64),
            "position_ids": torch.tensor(positions),
            "slots": slots,
            "token_slots": torch.tensor(token_slots),
            "past_lengths": torch.tensor(_PASTS),
            "last_tokens": torch.tensor(last),
            "past": self._past(),
        }
        if self.carried:
            arguments["carried"] = self._carried()
        if self.hidden is not None:
            arguments["embeddings"] = torch.zeros(7, self.hidden)
            arguments["embedding_rows"] = torch.full((len(positions),), -1)
        return arguments


@dataclass(frozen=True, slots=True)
class RowInputs(GraphInputs):
    """The inputs of `RowDecoder`."""

    def axes(self) -> Axes:
        """Gives the shape of every graph input, in order."""
        tokens: list[str | int] = ["prefixes", "rows", "row_tokens"]
        axes: Axes = {
            "input_ids": tokens,
            "position_ids": tokens,
            "last_tokens": ["items_total"],
            **self._past_axes(),
        }
        if self.hidden is not None:
            axes |= {"embeddings": ["embedding_count", self.hidden], "embedding_rows": tokens}
        axes |= {"past_mask": ["prefixes", "past"], "own_mask": ["row_tokens", "row_tokens"]}
        if self.carried:
            axes[ITEM_PLACES] = ["prefixes", "prefix_items", "item_tokens"]
            axes |= self._carried_axes()
        return axes

    def example(self) -> Arguments:
        """Makes two prefixes of up to 6 tokens, each with 3 rows of 4 tokens; where items are apart, 2 of each."""
        rectangle = torch.ones(len(_PASTS), 3, 4, dtype=torch.int64)
        # Each a tensor of its own: the tracer takes one given twice for one input.
        arguments: Arguments = {
            "input_ids": rectangle,
            "position_ids": rectangle.clone(),
            "last_tokens": torch.tensor([2, 6, 9, 12, 14]),
            "past": self._past(),
        }
        if self.hidden is not None:
            arguments |= {"embeddings": torch.zeros(7, self.hidden), "embedding_rows": -rectangle}
        arguments |= {"past_mask": torch.zeros(len(_PASTS), 6), "own_mask": torch.zeros(4, 4)}
        if self.carried:
            places = torch.zeros(len(_PASTS), 6, 2, dtype=torch.int64)
            arguments |= {ITEM_PLACES: places, "carried": self._carried()}
        return arguments


@dataclass(frozen=True, slots=True)
class GroupedInputs(GraphInputs):
    """The inputs of `GroupedDecoder`."""

    def axes(self) -> Axes:
        """Gives the shape of every graph input, in order."""
        tokens: list[str | int] = ["prefixes", "rows", "row_tokens"]
        return {
            "input_ids": tokens,
            "position_ids": tokens,
            "last_tokens": ["items_total"],
            **self._past_axes(),
            "past_lengths": ["prefixes"],
            "row_lengths": ["prefixes", "rows"],
        }

    def example(self) -> Arguments:
        """Makes two prefixes of up to 6 tokens, each with 3 rows of up to 4 tokens."""
        rectangle = torch.ones(len(_PASTS), 3, 4, dtype=torch.int64)
        return {
            "input_ids": rectangle,
            "position_ids": rectangle.clone(),
            "last_tokens": torch.tensor([2, 6, 9, 12, 14]),
            "past": self._past(),
            "past_lengths": torch.tensor(_PASTS),
            "row_lengths": torch.full((len(_PASTS), 3), 4),
        }
