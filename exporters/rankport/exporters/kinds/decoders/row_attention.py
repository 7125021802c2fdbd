"""Shared-prefix attention laid out for ONNX Runtime on CUDA: maths of `packed_attention`, fewer passes over memory.

Tokens come as a rectangle [prefixes, rows, row tokens], each row one item or several short ones beside each other, and
masks say who sees whom: nothing is gathered, what was copied by head is read in place. Two forms:

- fused: the prefix's KV repeated for each row, and one kernel that never writes the scores down. Where query heads come
  by group (`head_order`), those of one KV head are rows of it; else the KV is copied for each;
- by rows: one product of all rows' queries with the prefix, where no kernel has the model's attention.

requires: masks, and where items are told apart their places, as inputs: what is counted from a shape would be made on
the host and copied to the device.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers.masking_utils import sliding_window_overlay

from rankport.exporters.graphs.masks import sees
from rankport.exporters.graphs.reshaping import parted, reshaped, size_of
from rankport.exporters.kinds.decoders.items_apart import ItemsApart, handed_on
from rankport.exporters.kinds.decoders.shared_prefix import KV, NO_WINDOWS, Scoring, capper
from rankport.runtime.backends.layouts.rectangle import UNSEEN


class RowPrefix(ItemsApart):
    """A rectangle of tokens that continues several prefixes."""

    convolves_by_operator = True

    def __init__(
        self,
        rectangle: torch.Size,
        masks: tuple[Tensor, Tensor],
        past: Sequence[Tensor],
        *,
        fused: bool,
        positions: Tensor,
        by_group: frozenset[int] = frozenset(),
        windows: Mapping[int, int] = NO_WINDOWS,
        item_places: Tensor | None = None,
    ) -> None:
        """Takes the `rectangle` as (prefixes, rows, row tokens). `fused`: attends by one kernel, where it can.

        masks [prefixes, past] and [row_tokens, row_tokens], 0 or very low; positions of tokens, as the rectangle.
        item_places [prefixes, items, item tokens], where items are told apart, those of a row one after another: the
        place of each token in its item, -1 where there is none.
        """
        super().__init__(past, by_group, windows)
        self._rectangle, self._masks, self._fused = rectangle, masks, fused
        self._positions = positions
        self._item_places = item_places
        self._within: dict[int, tuple[Tensor, Tensor]] = {}  # masks by window

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> tuple[Tensor, KV]:
        """See `SharedPrefix.attend`."""
        assert self.past is not None
        past, new = self.past[self.places[layer]], (self.by_slot(key), self.by_slot(value))
        if self._fused and scoring.softcap is None and scoring.sinks is None:
            return self._attend_fused(query, key, value, past, scoring, by_group=layer in self.by_group), new
        assert layer not in self.by_group
        return self._attend_by_rows(query, new, past, scoring), new

    def _attend_fused(
        self, query: Tensor, key: Tensor, value: Tensor, past: KV, scoring: Scoring, *, by_group: bool
    ) -> Tensor:
        """Attends through ONNX Runtime's MultiHeadAttention. [1, tokens, heads, value_dim]"""
        past_mask, own_mask = self._masks_as(query.dtype, scoring.window)
        _, heads, tokens, head_dim = query.shape
        kv_heads, value_dim = key.shape[1], value.shape[-1]
        prefixes, rows, length = self._rectangle
        cached, group = past[0].shape[2], heads // kv_heads
        copies, queries = (1, length * group) if by_group else (group, length)  # of a KV head; in a row

        def with_prefix(own: Tensor, before: Tensor) -> Tensor:
            """[prefixes * rows, cached + length, kv_heads * copies * width]"""
            width = own.shape[-1]
            repeated = before.transpose(1, 2)[:, None].expand(prefixes, rows, cached, kv_heads, width)
            both = torch.cat(
                [repeated, own.transpose(1, 2).reshape(prefixes, rows, length, kv_heads, width)], 2
            )
            if copies > 1:
                both = both[..., None, :].expand(prefixes, rows, cached + length, kv_heads, copies, width)
            return both.reshape(prefixes * rows, cached + length, kv_heads * copies * width)

        if by_group:
            own_mask = own_mask[:, None].expand(length, group, length).reshape(queries, length)
        if scoring.window is None:
            past_mask = past_mask[:, None, None, :]
        elif by_group:
            past_mask = past_mask[:, :, None].expand(prefixes, length, group, cached)
            past_mask = past_mask.reshape(prefixes, 1, queries, cached)
        else:
            past_mask = past_mask[:, None]
        bias = torch.cat(
            [
                past_mask.expand(prefixes, rows, queries, cached),
                own_mask[None, None].expand(prefixes, rows, queries, length),
            ],
            dim=-1,
        )
        mixed = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            [
                query.transpose(1, 2).reshape(prefixes * rows, queries, kv_heads * copies * head_dim),
                with_prefix(key, past[0]),
                with_prefix(value, past[1]),
                None,
                None,
                bias.reshape(prefixes * rows, 1, queries, cached + length),
            ],
            {"num_heads": kv_heads * copies, "scale": scoring.scale},
            dtype=query.dtype,
            shape=(prefixes * rows, queries, kv_heads * copies * value_dim),
            version=1,
        )
        return mixed.reshape(1, tokens, heads, value_dim)

    def _attend_by_rows(self, query: Tensor, own: KV, past: KV, scoring: Scoring) -> Tensor:
        """Attends in products and a softmax; `own` are the new keys and values. [1, tokens, heads, value_dim]"""
        past_mask, own_mask = self._masks_as(query.dtype, scoring.window)
        scale, capped = scoring.scale, capper(scoring.softcap)
        _, heads, tokens, head_dim = query.shape
        kv_heads, value_dim = own[0].shape[1], own[1].shape[-1]
        group, cached = heads // kv_heads, past[0].shape[2]
        prefixes, rows, length = self._rectangle

        by_head = (
            query.transpose(1, 2).reshape(prefixes, rows * length, kv_heads, group * head_dim).transpose(1, 2)
        )
        queries = by_head.reshape(prefixes, kv_heads, rows * length * group, head_dim)
        own_key = own[0].reshape(prefixes * kv_heads * rows, length, head_dim)
        own_value = own[1].reshape(prefixes * kv_heads * rows, length, value_dim)

        shape = (prefixes, kv_heads, rows, length, group)
        to_prefix = capped((queries @ past[0].transpose(2, 3)) * scale)
        if scoring.window is None:
            to_prefix = to_prefix + past_mask[:, None, None, :]
        else:
            to_prefix = to_prefix.reshape(*shape, cached) + past_mask[:, None, None, :, None]
        own_queries = queries.reshape(prefixes * kv_heads * rows, length * group, head_dim)
        to_self = capped((own_queries @ own_key.transpose(1, 2)) * scale)
        scores = torch.cat(
            [to_prefix.reshape(*shape, cached), to_self.reshape(*shape, length) + own_mask[:, None, :]],
            dim=-1,
        )
        if scoring.sinks is not None:
            sinks = scoring.sinks.reshape(1, kv_heads, 1, 1, group, 1)
            scores = torch.cat([scores, sinks.expand(*shape, 1)], dim=-1)
        weights = torch.softmax(scores, dim=-1)
        if scoring.sinks is not None:
            weights = weights[..., :-1]
        of_prefix = weights[..., :cached].reshape(prefixes, kv_heads, rows * length * group, cached) @ past[1]
        of_self = (
            weights[..., cached:].reshape(prefixes * kv_heads * rows, length * group, length) @ own_value
        )
        mixed = of_prefix.reshape(prefixes, kv_heads, rows * length, group * value_dim) + of_self.reshape(
            prefixes, kv_heads, rows * length, group * value_dim
        )
        return mixed.transpose(1, 2).reshape(1, tokens, heads, value_dim)

    def _masks_as(self, dtype: torch.dtype, window: int | None) -> tuple[Tensor, Tensor]:
        past_mask, own_mask = self._masks if window is None else self._masks_within(window)
        return past_mask.to(dtype), own_mask.to(dtype)

    def _masks_within(self, window: int) -> tuple[Tensor, Tensor]:
        """Gives masks within a window: [prefixes, row_tokens, past] and [row_tokens, row_tokens].

        A token of a row stands at the same place of its item in every row of a prefix, unless it is padding. Tokens of
        one item are as far from each other in the row as in the item.
        """
        if window not in self._within:
            near, (past_mask, own_mask) = sliding_window_overlay(window), self._masks
            queries = self._positions.amax(1)[:, :, None]
            of_past = sees(near, queries, _counted(past_mask, 1)[:, None, :])
            of_own = sees(near, _counted(own_mask, 0), _counted(own_mask, 1))
            self._within[window] = (
                torch.where(of_past, past_mask[:, None, :], UNSEEN),
                torch.where(of_own, own_mask, UNSEEN),
            )
        return self._within[window]

    def by_slot(self, states: Tensor) -> Tensor:
        """See `SharedPrefix.by_slot`."""
        return rows_by_slot(self._rectangle, states)

    def slots_of(self, tokens: Tensor) -> Tensor:
        """See `SharedPrefix.slots_of`: a token's own place is its slot."""
        return tokens

    def existing(self) -> Tensor:
        """See `SharedPrefix.existing`."""
        return (self._masks[0] == 0).to(torch.float32)

    def seeing(self) -> Tensor:
        """See `SharedPrefix.seeing`."""
        return (self._masks[1] == 0).to(torch.float32)

    @property
    def operator_rows(self) -> int:
        """See `ItemsApart.operator_rows`."""
        return self._rectangle[1]

    def by_prefix(self, states: Tensor) -> Tensor:
        """See `ItemsApart.by_prefix`."""
        prefixes, rows, length = self._rectangle
        return states.reshape(prefixes, rows * length, states.shape[-1])

    def by_token(self, places: Tensor) -> Tensor:
        """See `ItemsApart.by_token`."""
        return places.flatten(0, 1)[None]

    def by_item(self, states: Tensor) -> Tensor:
        """See `ItemsApart.by_item`."""
        prefixes, items, length = self._places.shape
        width = states.shape[-1]
        of_item = size_of(self._places, 2)
        return reshaped(states, (prefixes * items, length, width), (-1, of_item, width))

    def from_items(self, items: Tensor, like: Tensor) -> Tensor:
        """See `ItemsApart.from_items`."""
        width = items.shape[-1]
        return reshaped(items, (1, like.shape[1], width), (1, -1, width))

    def for_items(self, carried: Tensor) -> Tensor:
        """See `ItemsApart.for_items`."""
        return handed_on(carried, self._places.shape[1])

    def place_exists(self) -> Tensor:
        """See `ItemsApart.place_exists`."""
        return self._of_prefixes(self._places) >= 0

    def place_begins(self) -> Tensor:
        """See `ItemsApart.place_begins`."""
        return self._of_prefixes(self._places) == 0

    def sums_in_items(self, places: Tensor) -> Tensor:
        """See `ItemsApart.sums_in_items`."""
        sums = self.by_item(places).cumsum(1)
        return reshaped(sums, places.shape, (size_of(places, 0), -1, places.shape[2]))

    def for_rows(self, carried: Tensor) -> Tensor | None:
        """See `ItemsApart.for_rows`."""
        return handed_on(carried, self._rectangle[1])

    def rest_of_rows(self, places: Tensor) -> Tensor:
        """See `ItemsApart.rest_of_rows`."""
        prefixes, width = places.shape[0], places.shape[2:]
        _, rest = self._parted(places)
        return rest.reshape(prefixes, rest.shape[1] * rest.shape[2], *width)

    def with_rest(self, places: Tensor, rest: Tensor) -> Tensor:
        """See `ItemsApart.with_rest`."""
        first, others = self._parted(places)
        return torch.cat([first, rest.reshape(others.shape)], 2).reshape(places.shape)

    def _parted(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Parts the first item of each row from the rest, of [prefixes, places, ...]: [prefixes, rows, places, ...]."""
        prefixes, rows, length = self._rectangle
        by_row = places.reshape(prefixes, rows, length, *places.shape[2:])
        return parted(by_row, 2, self._places.shape[2], size_of(self._places, 2))

    def _of_prefixes(self, places: Tensor) -> Tensor:
        prefixes, rows, length = self._rectangle
        return reshaped(places, (prefixes, rows * length), (size_of(places, 0), -1))

    @property
    def _places(self) -> Tensor:
        assert self._item_places is not None, "a graph of recurrent layers takes places of items"
        return self._item_places


def _counted(like: Tensor, axis: int) -> Tensor:
    """Counts from 0 along an axis: on the device, where from a shape it would be on the host."""
    return (like == like).to(torch.int64).cumsum(axis) - 1


def rows_by_slot(rectangle: torch.Size, states: Tensor) -> Tensor:
    """Puts states [1, heads, tokens, width] of a `rectangle` by slot: [prefixes, heads, slots, width]."""
    prefixes, rows, length = rectangle
    by_token = states.transpose(1, 2).reshape(prefixes, rows * length, states.shape[1], states.shape[-1])
    return by_token.transpose(1, 2)
