"""Attention over a shared prefix, plugged into transformers' attention interface.

Owns the one attention function that every exported decoder runs, and the arguments it needs. The model around it
stays the checkpoint's own code: it sees one packed sequence [1, tokens], while attention unpacks the tokens into
slots [prefixes, items, item tokens], lets each item attend to its prefix and causally to itself under one softmax,
and packs the result again. Everything outside attention is row-wise, so packing costs no padding there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from rankport.exporters.kinds.ranker.row_attention import attend_by_rows, attend_fused
from rankport.protos.errors import CheckpointError

ATTENTION_NAME = "rankport_shared_prefix"
KEYWORD = "shared_prefix"


@dataclass(slots=True)
class SharedPrefix:
    """What attention needs beyond query, key and value; collects each layer's new KV while the model runs."""

    slots: Tensor  # [prefixes, items, item_tokens] packed index of the token in each slot, any token where padded
    token_slots: Tensor  # [tokens] flat slot of each packed token
    past_lengths: Tensor  # [prefixes]
    past: (
        list[tuple[Tensor, Tensor]] | None
    )  # per layer, each [prefixes, kv_heads, past, head_dim]; None: empty
    new: dict[int, tuple[Tensor, Tensor]] = field(
        default_factory=dict
    )  # layer -> [prefixes, kv_heads, slots, head_dim]
    windows: dict[int, int] = field(default_factory=dict)  # layer -> sliding window, where it has one
    # [prefixes, past] and [item_tokens, item_tokens], 0 or very low: given, attention is laid out for a GPU, and all
    # that counts of `slots` is its shape.
    masks: tuple[Tensor, Tensor] | None = None
    fused: bool = False  # then by one kernel, where it can be
    _added: tuple[Tensor, Tensor] | None = field(default=None, init=False)  # see `added`

    def added(self, past: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Gives what hides padded prefix tokens, and later tokens of an item, in scores: made once for all layers."""
        if self._added is None:
            own = _causal_mask(self.slots.shape[2], dtype)
            self._added = _past_mask(self.past_lengths, past, dtype), own
        return self._added


def install() -> None:
    """Makes the function known to transformers under `ATTENTION_NAME`. Idempotent."""
    AttentionInterface.register(ATTENTION_NAME, shared_prefix_attention)


def set_attention(model: nn.Module, name: str) -> None:
    """Chooses the function of the attention interface that a model's layers call."""
    # Every submodule reads the shared config object; some hold a copy of their own.
    for submodule in model.modules():
        config = getattr(submodule, "config", None)
        if config is not None and hasattr(config, "_attn_implementation"):
            config._attn_implementation = name


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: Tensor | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attention of one layer: query [1, heads, tokens, head_dim], key and value [1, kv_heads, tokens, head_dim].

    Returns [1, tokens, heads, head_dim]. Raises CheckpointError if the layer asks for what this function lacks.
    """
    shared = kwargs.get(KEYWORD)
    if not isinstance(shared, SharedPrefix):
        raise CheckpointError(
            f"{type(module).__name__} does not pass keyword arguments down to the attention interface: "
            "the shared prefix cannot reach it"
        )
    if s_aux is not None:
        raise CheckpointError(
            f"{type(module).__name__} uses attention sinks, which shared-prefix scoring lacks"
        )
    if attention_mask is not None or not getattr(module, "is_causal", True):
        raise CheckpointError(
            f"{type(module).__name__} is not plainly causal: an item would see more than its prefix"
        )
    layer = _layer_index(module, shared)
    if sliding_window is not None:
        shared.windows[layer] = int(sliding_window)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if shared.masks is not None:
        assert shared.past is not None
        past = shared.past[layer]
        if shared.fused and softcap is None:
            packed, shared.new[layer] = attend_fused(query, key, value, shared, past, scale)
        else:
            packed, shared.new[layer] = attend_by_rows(
                query, key, value, shared, past, scale, _softcapper(softcap)
            )
        return packed, None
    return _attend(layer, query * scale, key, value, shared, _softcapper(softcap)), None


def _layer_index(module: nn.Module, shared: SharedPrefix) -> int:
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int) or layer in shared.new:
        raise CheckpointError(
            f"{type(module).__name__} calls attention as layer {layer!r}, after layers {sorted(shared.new)}: "
            "expected one call for each layer"
        )
    return layer


def _softcapper(softcap: float | None) -> Callable[[Tensor], Tensor]:
    """Logit soft-capping of Gemma 2 (arXiv 2408.00118, section 2): cap * tanh(scores / cap)."""
    if softcap is None:
        return lambda scores: scores
    return lambda scores: torch.tanh(scores / softcap) * softcap


def _attend(
    layer: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    shared: SharedPrefix,
    capped: Callable[[Tensor], Tensor],
) -> Tensor:
    _, heads, tokens, head_dim = query.shape
    kv_heads, value_dim = key.shape[1], value.shape[-1]
    group = heads // kv_heads
    prefixes, items, length = shared.slots.shape
    flat = shared.slots.reshape(-1)
    if shared.past is None:
        past_key = key.new_zeros(prefixes, kv_heads, 0, head_dim)
        past_value = value.new_zeros(prefixes, kv_heads, 0, value_dim)
    else:
        past_key, past_value = shared.past[layer]
    past = past_key.shape[2]

    def unpack(states: Tensor) -> Tensor:
        # [1, kv_heads, tokens, d] -> [prefixes, kv_heads, items, length, d]
        return states.index_select(2, flat).reshape(kv_heads, prefixes, items, length, -1).transpose(0, 1)

    own_key, own_value = unpack(key), unpack(value)
    shared.new[layer] = (own_key.flatten(2, 3), own_value.flatten(2, 3))

    # Rows ordered (item, group, token): one product over all items' queries for the prefix, one per item for itself.
    by_slot = query.index_select(2, flat).reshape(kv_heads, group, prefixes, items, length, head_dim)
    rows = by_slot.permute(2, 0, 3, 1, 4, 5).reshape(prefixes, kv_heads, items * group * length, head_dim)
    to_past, to_own = shared.added(past, query.dtype)
    to_prefix = capped(rows @ past_key.transpose(2, 3)) + to_past
    # Three axes, so that runtimes fold the transposition of the keys into the product.
    own_rows = rows.reshape(prefixes * kv_heads * items, group * length, head_dim)
    keys_of_item = own_key.reshape(prefixes * kv_heads * items, length, head_dim)
    to_self = capped(own_rows @ keys_of_item.transpose(1, 2)).reshape(
        prefixes, kv_heads, items, group, length, length
    )
    to_self = to_self + to_own

    scores = torch.cat([to_prefix.reshape(prefixes, kv_heads, items, group, length, past), to_self], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    of_prefix = weights[..., :past].reshape(prefixes, kv_heads, items * group * length, past) @ past_value
    of_self = weights[..., past:].reshape(prefixes, kv_heads, items, group * length, length) @ own_value
    mixed = of_prefix.reshape(prefixes, kv_heads, items, group * length, value_dim) + of_self

    per_token = mixed.reshape(prefixes, kv_heads, items, group, length, value_dim).permute(0, 2, 4, 1, 3, 5)
    packed = per_token.reshape(prefixes * items * length, heads * value_dim).index_select(
        0, shared.token_slots
    )
    return packed.reshape(1, tokens, heads, value_dim)


def _past_mask(past_lengths: Tensor, past: int, dtype: torch.dtype) -> Tensor:
    """0 where a prefix token exists, the lowest value where the prefix is padded. [prefixes, 1, 1, past]"""
    exists = torch.arange(past, device=past_lengths.device)[None, :] < past_lengths[:, None]
    return torch.where(exists, 0.0, torch.finfo(dtype).min).to(dtype)[:, None, None, :]


def _causal_mask(length: int, dtype: torch.dtype) -> Tensor:
    """Padding follows every real token of an item, so causality alone hides it. [length, length]"""
    position = torch.arange(length)
    return torch.where(position[None, :] <= position[:, None], 0.0, torch.finfo(dtype).min).to(dtype)
