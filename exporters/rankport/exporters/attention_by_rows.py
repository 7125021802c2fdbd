"""Shared-prefix attention laid out for a GPU: the maths of `attention`, with fewer passes over memory. Two forms:

- `attend_by_rows`: one product of all items' queries with the prefix, for items of few tokens.
- `attend_fused`: the prefix's KV repeated for each item, and one kernel that never writes the scores down, for items of
  many tokens: there the scores are larger than the KV.

requires: masks as inputs, since what is counted from a shape would be made on the host and copied to the device.
Queries, keys and values go from packed tokens to their places under attention in one gather of rows.
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
    rows = _take(query, of_queries).reshape(prefixes, kv_heads, items * group * length, head_dim)
    new = new_kv(key, value, shared.slots)
    own_key = new[0].reshape(prefixes * kv_heads * items, length, head_dim)
    own_value = new[1].reshape(prefixes * kv_heads * items, length, value_dim)

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


def attend_fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    shared: "SharedPrefix",
    past: tuple[Tensor, Tensor],
    scale: float,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """As `attend_by_rows`, through ONNX Runtime's MultiHeadAttention. It has no soft-capping."""
    assert shared.masks is not None
    past_mask, own_mask = (mask.to(query.dtype) for mask in shared.masks)
    _, heads, tokens, head_dim = query.shape
    kv_heads, value_dim = key.shape[1], value.shape[-1]
    prefixes, items, length = shared.slots.shape
    cached = past[0].shape[2]
    by_token = shared.slots[..., None]
    of_queries = by_token * heads + torch.arange(heads)
    of_keys = by_token * kv_heads + torch.arange(heads) // (heads // kv_heads)
    rows = _take(query, of_queries).reshape(prefixes * items, length, heads * head_dim)

    def with_prefix(own: Tensor, before: Tensor) -> Tensor:
        """[prefixes * items, cached + length, heads * width]"""
        width = own.shape[-1]
        repeated = before.transpose(1, 2)[:, None, :, :, None, :].expand(
            prefixes, items, cached, kv_heads, heads // kv_heads, width
        )
        of_items = _take(own, of_keys).reshape(prefixes * items, length, heads * width)
        return torch.cat([repeated.reshape(prefixes * items, cached, heads * width), of_items], dim=1)

    bias = torch.cat(
        [
            past_mask[:, None, None, :].expand(prefixes, items, length, cached),
            own_mask[None, None].expand(prefixes, items, length, length),
        ],
        dim=-1,
    )
    mixed = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        [
            rows,
            with_prefix(key, past[0]),
            with_prefix(value, past[1]),
            None,
            None,
            bias.reshape(prefixes * items, 1, length, cached + length),
        ],
        {"num_heads": heads, "scale": scale},
        dtype=query.dtype,
        shape=(prefixes * items, length, heads * value_dim),
        version=1,
    )
    by_slot = mixed.reshape(prefixes * items * length, heads * value_dim)
    packed = by_slot.index_select(0, shared.token_slots)
    return packed.reshape(1, tokens, heads, value_dim), new_kv(key, value, shared.slots)


def new_kv(key: Tensor, value: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values by slot, each [prefixes, kv_heads, slots, width]."""
    prefixes, items, length = slots.shape
    kv_heads = key.shape[1]
    places = slots[:, None] * kv_heads + torch.arange(kv_heads).reshape(1, kv_heads, 1, 1)
    shape = (prefixes, kv_heads, items * length)
    return (
        _take(key, places).reshape(*shape, key.shape[-1]),
        _take(value, places).reshape(*shape, value.shape[-1]),
    )


def _take(states: Tensor, places: Tensor) -> Tensor:
    """Rows [places, d] of states [1, heads, tokens, d]: place = token * heads + head."""
    _, heads, tokens, width = states.shape
    rows = states.transpose(1, 2).reshape(tokens * heads, width)
    return rows.index_select(0, places.reshape(-1))
