"""Attention over padded texts for a GPU: one kernel a layer, plugged into transformers' attention interface.

Models that ask for what the kernel lacks, or whose attention does not go through the interface, keep their own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import (
    AttentionMaskInterface,
    bidirectional_mask_function,
    causal_mask_function,
    sdpa_mask,
)

from rankport.exporters.graphs.attention_interface import Attention, attending
from rankport.runtime.backends.layouts.rectangle import UNSEEN

_NAME = "rankport_encoder"

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
    mask: Tensor | None = sdpa_mask(
        batch_size, q_length, kv_length, mask_function=mask_function, attention_mask=attention_mask, **kwargs
    )
    return mask


@contextmanager
def fused_attention(model: nn.Module, seen: Seen = masked_seen) -> Iterator[None]:
    """Has the model, while open, attend by ONNX Runtime's MultiHeadAttention if it can; it is only to be traced."""
    if not _can_be_fused(model):
        yield
        return
    with _attending(model, _attend, seen):
        yield


def _can_be_fused(model: nn.Module) -> bool:
    """Asks a run of two texts: soft-capping and sinks are in the arguments of a layer, not in any one config."""
    if not getattr(model, "_supports_attention_backend", False):
        return False
    lacking: list[bool] = []

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
        items, heads, tokens, _ = query.shape
        return query.new_zeros(items, tokens, heads, value.shape[-1]), None

    ids = torch.ones(2, 3, dtype=torch.int64)
    with torch.no_grad(), _attending(model, probe, masked_seen):
        try:
            model(input_ids=ids, attention_mask=ids)
        except Exception:  # a model that takes no such inputs: the trace says so in its own words
            return False
    return bool(lacking) and not any(lacking)


@contextmanager
def _attending(model: nn.Module, attention: Attention, seen: Seen) -> Iterator[None]:
    AttentionMaskInterface.register(_NAME, seen)
    try:
        with attending(model, _NAME, attention):
            yield
    finally:
        AttentionMaskInterface.register(_NAME, masked_seen)  # which holds no model


def _attend(
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

    def by_token(states: Tensor) -> Tensor:
        if states.shape[1] != heads:
            states = states.repeat_interleave(heads // states.shape[1], dim=1)
        return states.transpose(1, 2).reshape(items, tokens, heads * head_dim)

    bias = None
    if attention_mask is not None:
        bias = torch.where(attention_mask, 0.0, UNSEEN).to(query.dtype).expand(-1, 1, tokens, tokens)
    mixed = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        [by_token(query), by_token(key), by_token(value), None, None, bias],
        {
            "num_heads": heads,
            "scale": head_dim**-0.5 if scaling is None else scaling,
            "unidirectional": int(bias is None),
        },
        dtype=query.dtype,
        shape=(items, tokens, heads * head_dim),
        version=1,
    )
    return mixed.reshape(items, tokens, heads, head_dim), None
