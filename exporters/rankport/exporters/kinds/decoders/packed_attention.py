"""Shared-prefix attention over packed tokens: those of all items one after another, without padding.

Attention unpacks the tokens into slots [prefixes, items, item tokens], lets each item attend to its prefix and causally
to itself under one softmax, and packs the result again. Everything outside attention is row-wise, so packing costs no
padding there.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers.masking_utils import sliding_window_overlay

from rankport.exporters.graphs.masks import sees
from rankport.exporters.kinds.decoders.items_apart import ItemsApart, handed_on
from rankport.exporters.kinds.decoders.shared_prefix import KV, NO_WINDOWS, Scoring, capper


class PackedPrefix(ItemsApart):
    """Packed tokens that continue several prefixes."""

    def __init__(
        self,
        slots: Tensor,
        token_slots: Tensor,
        past_lengths: Tensor,
        past: Sequence[Tensor] | None,
        by_group: frozenset[int] = frozenset(),
        windows: Mapping[int, int] = NO_WINDOWS,
    ) -> None:
        """Slots map tokens there and back.

        slots [prefixes, items, item_tokens] packed index of the token in each slot, any token where padded;
        token_slots [tokens] flat slot of each packed token; past_lengths [prefixes].
        """
        super().__init__(past, by_group, windows)
        self.slots, self.token_slots, self.past_lengths = slots, token_slots, past_lengths
        self._masks: dict[int | None, tuple[Tensor, Tensor]] = {}  # by window

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> tuple[Tensor, KV]:
        """See `SharedPrefix.attend`."""
        query, capped = query * scoring.scale, capper(scoring.softcap)
        _, heads, tokens, head_dim = query.shape
        kv_heads, value_dim = key.shape[1], value.shape[-1]
        group = heads // kv_heads
        prefixes, items, length = self.slots.shape
        flat = self.slots.reshape(-1)
        past_key, past_value = self.past_of(layer, key, value)
        past = past_key.shape[2]
        own_key, own_value = self._unpacked(key), self._unpacked(value)

        # Rows ordered (item, group, token): one product over all items' queries for the prefix, one an item for itself.
        by_group = layer in self.by_group
        of_heads = (group, kv_heads) if by_group else (kv_heads, group)
        by_slot = query.index_select(2, flat).reshape(*of_heads, prefixes, items, length, head_dim)
        rows = by_slot.permute((2, 1, 3, 0, 4, 5) if by_group else (2, 0, 3, 1, 4, 5)).reshape(
            prefixes, kv_heads, items * group * length, head_dim
        )
        past_mask, own_mask = self._masks_of(past, query.dtype, scoring.window)
        to_prefix = capped(rows @ past_key.transpose(2, 3))
        if scoring.window is None:
            to_prefix = to_prefix + past_mask
        else:
            to_prefix = to_prefix.reshape(prefixes, kv_heads, items * group, length, past) + past_mask
        # Three axes, so that runtimes fold the transposition of the keys into the product.
        own_rows = rows.reshape(prefixes * kv_heads * items, group * length, head_dim)
        keys_of_item = own_key.reshape(prefixes * kv_heads * items, length, head_dim)
        to_self = capped(own_rows @ keys_of_item.transpose(1, 2)).reshape(
            prefixes, kv_heads, items, group, length, length
        )
        to_self = to_self + own_mask

        scores = torch.cat(
            [to_prefix.reshape(prefixes, kv_heads, items, group, length, past), to_self], dim=-1
        )
        if scoring.sinks is not None:
            assert not by_group
            sinks = scoring.sinks.reshape(1, kv_heads, 1, group, 1, 1)
            scores = torch.cat([scores, sinks.expand(prefixes, kv_heads, items, group, length, 1)], dim=-1)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        if scoring.sinks is not None:
            weights = weights[..., :-1]
        of_prefix = weights[..., :past].reshape(prefixes, kv_heads, items * group * length, past) @ past_value
        of_self = weights[..., past:].reshape(prefixes, kv_heads, items, group * length, length) @ own_value
        mixed = of_prefix.reshape(prefixes, kv_heads, items, group * length, value_dim) + of_self

        per_token = mixed.reshape(prefixes, kv_heads, items, group, length, value_dim).permute(
            (0, 2, 4, 3, 1, 5) if by_group else (0, 2, 4, 1, 3, 5)
        )
        packed = per_token.reshape(prefixes * items * length, heads * value_dim).index_select(
            0, self.token_slots
        )
        new = (own_key.flatten(2, 3), own_value.flatten(2, 3))
        return packed.reshape(1, tokens, heads, value_dim), new

    def _masks_of(self, past: int, dtype: torch.dtype, window: int | None) -> tuple[Tensor, Tensor]:
        """Gives what hides padded prefix tokens, later tokens of an item, and all beyond a window, in scores.

        Of the prefix [prefixes, 1, 1, past], within a window [prefixes, 1, 1, item_tokens, past]; of the item
        [item_tokens, item_tokens]. They are made once for all layers.
        """
        if window not in self._masks:
            causal = _is_causal(self.slots.shape[2])
            if window is None:
                own = _mask(causal, dtype)
                of_past = _mask(_exists(self.past_lengths, past), dtype)[:, None, None, :]
            else:
                near, places = sliding_window_overlay(window), torch.arange(self.slots.shape[2])
                own = _mask(causal & sees(near, places[:, None], places[None, :]), dtype)
                queries = (self.past_lengths[:, None] + places[None, :])[:, :, None]
                seen = sees(near, queries, torch.arange(past)[None, None, :])
                exists = _exists(self.past_lengths, past)[:, None, :]
                of_past = _mask(exists & seen, dtype)[:, None, None]
            self._masks[window] = of_past, own
        return self._masks[window]

    def past_of(self, layer: int, key: Tensor, value: Tensor) -> KV:
        """Gives a layer's past, empty where there is none."""
        if self.past is not None:
            return self.past[self.places[layer]]
        prefixes, kv_heads = self.slots.shape[0], key.shape[1]
        return (
            key.new_zeros(prefixes, kv_heads, 0, key.shape[-1]),
            value.new_zeros(prefixes, kv_heads, 0, value.shape[-1]),
        )

    def by_slot(self, states: Tensor) -> Tensor:
        """See `SharedPrefix.by_slot`."""
        return self._unpacked(states).flatten(2, 3)

    def slots_of(self, tokens: Tensor) -> Tensor:
        """See `SharedPrefix.slots_of`."""
        return self.token_slots.index_select(0, tokens)

    def existing(self) -> Tensor:
        """See `SharedPrefix.existing`."""
        past = 0 if self.past_states is None else self.past_states.shape[2]
        return _exists(self.past_lengths, past).to(torch.float32)

    def seeing(self) -> Tensor:
        """See `SharedPrefix.seeing`."""
        return _is_causal(self.slots.shape[2]).to(torch.float32)

    @property
    def operator_rows(self) -> int:
        """See `ItemsApart.operator_rows`."""
        return 1

    def by_prefix(self, states: Tensor) -> Tensor:
        """See `ItemsApart.by_prefix`."""
        prefixes, items, length = self.slots.shape
        return states[0].index_select(0, self.slots.reshape(-1)).reshape(prefixes, items * length, -1)

    def by_token(self, places: Tensor) -> Tensor:
        """See `ItemsApart.by_token`."""
        return places.flatten(0, 1).index_select(0, self.token_slots)[None]

    def by_item(self, states: Tensor) -> Tensor:
        """See `ItemsApart.by_item`."""
        prefixes, items, length = self.slots.shape
        return states[0].index_select(0, self.slots.reshape(-1)).reshape(prefixes * items, length, -1)

    def from_items(self, items: Tensor, like: Tensor) -> Tensor:
        """See `ItemsApart.from_items`."""
        # As many as there were, which a trace cannot know of the slots.
        return self.by_token(items).reshape(like.shape)

    def for_items(self, carried: Tensor) -> Tensor:
        """See `ItemsApart.for_items`."""
        return handed_on(carried, self.slots.shape[1])

    def place_exists(self) -> Tensor:
        """See `ItemsApart.place_exists`."""
        prefixes, items, length = self.slots.shape
        # A padded slot names any token, and that token another slot.
        at = self.token_slots.index_select(0, self.slots.reshape(-1))
        return (at == torch.arange(prefixes * items * length)).reshape(prefixes, items * length)

    def place_begins(self) -> Tensor:
        """See `ItemsApart.place_begins`."""
        _, items, length = self.slots.shape
        return (torch.arange(length) == 0).expand(items, length).reshape(items * length)

    def sums_in_items(self, places: Tensor) -> Tensor:
        """See `ItemsApart.sums_in_items`."""
        prefixes, items, length = self.slots.shape
        return places.reshape(prefixes * items, length, -1).cumsum(1).reshape(prefixes, items * length, -1)

    def _unpacked(self, states: Tensor) -> Tensor:
        """Puts [1, kv_heads, tokens, width] by slot: [prefixes, kv_heads, items, item_tokens, width]."""
        prefixes, items, length = self.slots.shape
        by_slot = states.index_select(2, self.slots.reshape(-1))
        return by_slot.reshape(states.shape[1], prefixes, items, length, -1).transpose(0, 1)


def _exists(past_lengths: Tensor, past: int) -> Tensor:
    return torch.arange(past, device=past_lengths.device)[None, :] < past_lengths[:, None]


def _mask(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Makes 0 where a token is seen, else the lowest value."""
    return torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype)


def _is_causal(length: int) -> Tensor:
    """Says whether one token is not behind another [length, length]: padding, behind every real one, is hidden so."""
    position = torch.arange(length)
    return position[None, :] <= position[:, None]
