"""Shared-prefix attention laid out for a GPU: the maths of `packed_attention`, with fewer passes over memory.

Tokens come as a rectangle [prefixes, rows, row tokens], each row one item or several short ones beside each other, and
masks say who sees whom: nothing is gathered, what was copied by head is read in place. Two forms:

- `attend_fused`: the prefix's KV repeated for each row, and one kernel that never writes the scores down;
- `attend_by_rows`: one product of all rows' queries with the prefix, where no kernel has the model's attention.

requires: masks as inputs, since what is counted from a shape would be made on the host and copied to the device.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from rankport.exporters.kinds.ranker.packed_attention import SharedPrefix

NewKV = tuple[Tensor, Tensor]


def attend_fused(
    query: Tensor, key: Tensor, value: Tensor, shared: "SharedPrefix", past: NewKV, scale: float
) -> tuple[Tensor, NewKV]:
    """Attention of one layer through ONNX Runtime's MultiHeadAttention; arguments as in `shared_prefix_attention`.

    Returns [1, tokens, heads, value_dim], and the new keys and values [prefixes, kv_heads, slots, head_dim].
    """
    past_mask, own_mask = _masks(shared, query.dtype)
    _, heads, tokens, head_dim = query.shape
    kv_heads, value_dim = key.shape[1], value.shape[-1]
    prefixes, rows, length = shared.slots.shape
    cached = past[0].shape[2]

    def with_prefix(own: Tensor, before: Tensor) -> Tensor:
        """[prefixes * rows, cached + length, heads * width]"""
        width = own.shape[-1]
        repeated = before.transpose(1, 2)[:, None].expand(prefixes, rows, cached, kv_heads, width)
        both = torch.cat([repeated, own.transpose(1, 2).reshape(prefixes, rows, length, kv_heads, width)], 2)
        if heads != kv_heads:
            both = both[..., None, :].expand(
                prefixes, rows, cached + length, kv_heads, heads // kv_heads, width
            )
        return both.reshape(prefixes * rows, cached + length, heads * width)

    bias = torch.cat(
        [
            past_mask[:, None, None, :].expand(prefixes, rows, length, cached),
            own_mask[None, None].expand(prefixes, rows, length, length),
        ],
        dim=-1,
    )
    mixed = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        [
            query.transpose(1, 2).reshape(prefixes * rows, length, heads * head_dim),
            with_prefix(key, past[0]),
            with_prefix(value, past[1]),
            None,
            None,
            bias.reshape(prefixes * rows, 1, length, cached + length),
        ],
        {"num_heads": heads, "scale": scale},
        dtype=query.dtype,
        shape=(prefixes * rows, length, heads * value_dim),
        version=1,
    )
    return mixed.reshape(1, tokens, heads, value_dim), _new_kv(key, value, shared.slots)


def attend_by_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    shared: "SharedPrefix",
    past: NewKV,
    scale: float,
    capped: Callable[[Tensor], Tensor],
) -> tuple[Tensor, NewKV]:
    """The same in products and a softmax; `capped` is soft-capping."""
    past_mask, own_mask = _masks(shared, query.dtype)
    _, heads, tokens, head_dim = query.shape
    kv_heads, value_dim = key.shape[1], value.shape[-1]
    group, cached = heads // kv_heads, past[0].shape[2]
    prefixes, rows, length = shared.slots.shape

    by_head = (
        query.transpose(1, 2).reshape(prefixes, rows * length, kv_heads, group * head_dim).transpose(1, 2)
    )
    queries = by_head.reshape(prefixes, kv_heads, rows * length * group, head_dim)
    new = _new_kv(key, value, shared.slots)
    own_key = new[0].reshape(prefixes * kv_heads * rows, length, head_dim)
    own_value = new[1].reshape(prefixes * kv_heads * rows, length, value_dim)

    to_prefix = capped((queries @ past[0].transpose(2, 3)) * scale) + past_mask[:, None, None, :]
    own_queries = queries.reshape(prefixes * kv_heads * rows, length * group, head_dim)
    to_self = capped((own_queries @ own_key.transpose(1, 2)) * scale)
    shape = (prefixes, kv_heads, rows, length, group)
    scores = torch.cat(
        [to_prefix.reshape(*shape, cached), to_self.reshape(*shape, length) + own_mask[:, None, :]], dim=-1
    )
    weights = torch.softmax(scores, dim=-1)
    of_prefix = weights[..., :cached].reshape(prefixes, kv_heads, rows * length * group, cached) @ past[1]
    of_self = weights[..., cached:].reshape(prefixes * kv_heads * rows, length * group, length) @ own_value
    mixed = of_prefix.reshape(prefixes, kv_heads, rows * length, group * value_dim) + of_self.reshape(
        prefixes, kv_heads, rows * length, group * value_dim
    )
    return mixed.transpose(1, 2).reshape(1, tokens, heads, value_dim), new


def _masks(shared: "SharedPrefix", dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    assert shared.masks is not None
    past_mask, own_mask = shared.masks
    return past_mask.to(dtype), own_mask.to(dtype)


def _new_kv(key: Tensor, value: Tensor, slots: Tensor) -> NewKV:
    """Keys and values by slot, each [prefixes, kv_heads, slots, width]."""
    prefixes, rows, length = slots.shape
    kv_heads = key.shape[1]

    def by_prefix(states: Tensor) -> Tensor:
        by_token = states.transpose(1, 2).reshape(prefixes, rows * length, kv_heads, states.shape[-1])
        return by_token.transpose(1, 2)

    return by_prefix(key), by_prefix(value)
