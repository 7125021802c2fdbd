"""Shared-prefix attention laid out for a GPU: the maths of `attention`, with fewer passes over memory.

requires: masks as inputs, since what is counted from a shape would be made on the host and copied to the device.
Queries, keys and values go from packed tokens to their places under attention in one gather of [head_dim] rows.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from rankport.exporters.attention import SharedPrefix


def attend_by_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    shared: "SharedPrefix",
    past: tuple[Tensor, Tensor],
    scale: float,
    capped: Callable[[Tensor], Tensor],
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Attention of one layer, arguments as in `shared_prefix_attention`.

    Returns [1, tokens, heads, value_dim], and the new keys and values [prefixes, kv_heads, slots, head_dim].
    """
    assert shared.masks is not None
    past_mask, own_mask = (mask.to(query.dtype) for mask in shared.masks)
    _, heads, tokens, head_dim = query.shape
    kv_heads, value_dim = key.shape[1], value.shape[-1]
    group, cached = heads // kv_heads, past[0].shape[2]
    prefixes, items, length = shared.slots.shape

    of_queries = shared.slots[:, None, :, None, :] * heads + torch.arange(heads).reshape(
        1, kv_heads, 1, group, 1
    )
    of_keys = shared.slots[:, None] * kv_heads + torch.arange(kv_heads).reshape(1, kv_heads, 1, 1)
    rows = _take(query, of_queries).reshape(prefixes, kv_heads, items * group * length, head_dim)
    own_key = _take(key, of_keys).reshape(prefixes * kv_heads * items, length, head_dim)
    own_value = _take(value, of_keys).reshape(prefixes * kv_heads * items, length, value_dim)
    new = (
        own_key.reshape(prefixes, kv_heads, items * length, head_dim),
        own_value.reshape(prefixes, kv_heads, items * length, value_dim),
    )

    to_prefix = capped((rows @ past[0].transpose(2, 3)) * scale) + past_mask[:, None, None, :]
    own_rows = rows.reshape(prefixes * kv_heads * items, group * length, head_dim)
    to_self = capped((own_rows @ own_key.transpose(1, 2)) * scale)
    shape = (prefixes, kv_heads, items, group, length)
    scores = torch.cat(
        [to_prefix.reshape(*shape, cached), to_self.reshape(*shape, length) + own_mask], dim=-1
    )
    weights = torch.softmax(scores, dim=-1)
    of_prefix = weights[..., :cached].reshape(prefixes, kv_heads, items * group * length, cached) @ past[1]
    of_self = weights[..., cached:].reshape(prefixes * kv_heads * items, group * length, length) @ own_value
    mixed = of_prefix.reshape(*shape, value_dim) + of_self.reshape(*shape, value_dim)
    by_slot = mixed.permute(0, 2, 4, 1, 3, 5).reshape(prefixes * items * length, heads * value_dim)
    packed = by_slot.index_select(0, shared.token_slots)
    return packed.reshape(1, tokens, heads, value_dim), new


def _take(states: Tensor, places: Tensor) -> Tensor:
    """Rows [places, d] of states [1, heads, tokens, d]: place = token * heads + head."""
    _, heads, tokens, width = states.shape
    rows = states.transpose(1, 2).reshape(tokens * heads, width)
    return rows.index_select(0, places.reshape(-1))
