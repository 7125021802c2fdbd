"""Attention over padded texts for a GPU: one kernel a layer, plugged into transformers' attention interface.

Models that ask for what the kernel lacks, or whose attention does not go through the interface, keep their own: a run
tells, as transformers does not list all that do. Where a layer reads both ways, query heads that share keys and values
are rows of one head (`head_order`) if the model allows. Elsewhere keys and values are copied for each: for a layer
without a mask there is a faster kernel, which takes no such rows, and a mask of windows, tokens times tokens of prompts
that may be long, would be as many times larger.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import (
    AttentionMaskInterface,
    bidirectional_mask_function,
    causal_mask_function,
    sdpa_mask,
)

from rankport.exporters.graphs.attention_interface import Attention, attending, has_interface
from rankport.exporters.kinds.head_order import AttentionHeads, Modules, alike, heads_by_group
from rankport.exporters.quantization.linear import unrounded_inputs
from rankport.runtime.backends.layouts.rectangle import UNSEEN

_NAME = "rankport_encoder"
_IDS = ((1, 2, 3, 4), (4, 3, 1, 2))

Seen = Callable[..., Tensor | None]
"""Call that transformers makes for a mask: who sees whom, bool [items or 1, 1, 1 or tokens, tokens]; None: causal."""


def masked_seen(
    batch_size: int,
    q_length: int,
    kv_length: int,
    *,
    mask_function: Callable[..., Any],
    attention_mask: Tensor,
    **kwargs: Any,
) -> Tensor | None:
    """Says who sees whom among texts that come with a mask of their tokens.

    What transformers makes is counted from shapes, on the host. Here padding is at the end, where a causal model's real
    tokens do not see it, and a bidirectional one's see all but it.
    """
    if mask_function is causal_mask_function:
        return None
    if mask_function is bidirectional_mask_function:
        return attention_mask.to(torch.bool)[:, None, None, :]
    by_index = {**kwargs, "use_vmap": False}  # which cannot be traced
    mask: Tensor | None = sdpa_mask(
        batch_size,
        q_length,
        kv_length,
        mask_function=mask_function,
        attention_mask=attention_mask,
        **by_index,
    )
    return mask


@contextmanager
def fused_attention(model: nn.Module, seen: Seen = masked_seen) -> Iterator[None]:
    """Has the model, while open, attend by ONNX Runtime's MultiHeadAttention if it can; it is only to be traced."""
    both_ways = _heads_both_ways(model)
    if both_ways is None:
        yield
    elif all(layer.heads == layer.kv_heads for layer in both_ways):
        with _attending(model, partial(_attend, frozenset()), seen):
            yield
    else:
        run = partial(_run, model)
        with heads_by_group(model, run) as by_group, _attending(model, partial(_attend, by_group), seen):
            yield


def _heads_both_ways(model: nn.Module) -> list[AttentionHeads] | None:
    """Finds the heads of layers that read both ways; None of a model that one kernel does not compute.

    Asks a run of two texts: soft-capping and sinks are in the arguments of a layer, not in any one config. A model that
    transformers does not list as one that attends through its interface alone (Qwen3.5, say) is believed by its states.
    """
    if not has_interface(model):  # a CNN, an LSTM, a module of one's own
        return None
    lacking: list[bool] = []
    found: list[AttentionHeads] = []

    def probe(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        softcap: float | None = None,
        s_aux: Tensor | None = None,
        **kwargs: object,
    ) -> tuple[Tensor, None]:
        masked = attention_mask is not None and attention_mask.dtype != torch.bool
        crossing = key.shape[2] != query.shape[2] or value.shape != key.shape
        lacking.append(softcap is not None or s_aux is not None or masked or crossing)
        items, heads, tokens, head_dim = query.shape
        if _hides_padding_alone(attention_mask):
            found.append(AttentionHeads(module, heads, key.shape[1], head_dim))
        return query.new_zeros(items, tokens, heads, value.shape[-1]), None

    ids = torch.ones(2, 3, dtype=torch.int64)
    with torch.no_grad(), _attending(model, probe, masked_seen):
        try:
            model(input_ids=ids, attention_mask=ids)
        except Exception:  # a model that takes no such inputs: the trace says so in its own words
            return None
    if not lacking or any(lacking):
        return None
    listed = getattr(model, "_supports_attention_backend", False)
    return found if listed or (hasattr(model, "base_model") and _states_stay(model)) else None


def _states_stay(model: nn.Module) -> bool:
    """Tells whether the last states are the model's own where its layers attend as the kernel does."""
    with torch.no_grad(), unrounded_inputs(model):
        _, (states,) = _run(model, frozenset())
        return alike(_last_states(model), states)


def _hides_padding_alone(mask: Tensor | None) -> bool:
    return mask is not None and mask.shape[2] == 1


def _run(model: nn.Module, by_group: Modules) -> tuple[Sequence[AttentionHeads], Sequence[Tensor]]:
    """Gives the heads of layers that read both ways, and the last states of two texts."""
    found: list[AttentionHeads] = []

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float | None = None,
        **kwargs: object,
    ) -> tuple[Tensor, None]:
        heads, kv_heads = query.shape[1], key.shape[1]
        if _hides_padding_alone(attention_mask):
            found.append(AttentionHeads(module, heads, kv_heads, query.shape[-1]))
        of_head = (
            torch.arange(heads) % kv_heads if module in by_group else torch.arange(heads) * kv_heads // heads
        )
        mixed = nn.functional.scaled_dot_product_attention(
            query,
            key[:, of_head],
            value[:, of_head],
            attention_mask,
            is_causal=attention_mask is None,
            scale=scaling,
        )
        return mixed.transpose(1, 2), None

    with _attending(model, attend, masked_seen):
        return found, [_last_states(model)]


def _last_states(model: nn.Module) -> Tensor:
    """Gives those of two texts."""
    ids = torch.tensor(_IDS)
    body = model.base_model  # of a head, which gives no states
    states: Tensor = body(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state  # type: ignore[operator]
    return states


@contextmanager
def _attending(model: nn.Module, attention: Attention, seen: Seen) -> Iterator[None]:
    AttentionMaskInterface.register(_NAME, seen)
    try:
        with attending(model, _NAME, attention):
            yield
    finally:
        AttentionMaskInterface.register(_NAME, masked_seen)  # which holds no model


def _attend(
    by_group: Modules,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attends in one layer: query [items, heads, tokens, head_dim], key and value [items, kv_heads, ...].

    Returns [items, tokens, heads, head_dim].
    """
    items, heads, tokens, head_dim = query.shape
    group = heads // key.shape[1] if module in by_group else 1  # rows of a token
    assert group == 1 or attention_mask is not None
    queries, wide = tokens * group if group > 1 else tokens, heads // group

    def by_token(states: Tensor, rows: int | torch.SymInt) -> Tensor:
        if states.shape[1] < wide:
            states = states.repeat_interleave(wide // states.shape[1], dim=1)
        return states.transpose(1, 2).reshape(items, rows, wide * head_dim)

    bias = None
    if attention_mask is not None:
        bias = torch.where(attention_mask, 0.0, UNSEEN).to(query.dtype).expand(-1, 1, tokens, tokens)
        if group > 1:
            rows = bias[:, :, :, None].expand(-1, 1, tokens, group, tokens)
            bias = rows.reshape(bias.shape[0], 1, queries, tokens)
    mixed = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        [by_token(query, queries), by_token(key, tokens), by_token(value, tokens), None, None, bias],
        {
            "num_heads": wide,
            "scale": head_dim**-0.5 if scaling is None else scaling,
            "unidirectional": int(bias is None),
        },
        dtype=query.dtype,
        shape=(items, queries, wide * head_dim),
        version=1,
    )
    return mixed.reshape(items, tokens, heads, head_dim), None
