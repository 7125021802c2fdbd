"""NeoBERT as it is published: queries, keys and values of a head in one matrix, pairs of neighbours rotated."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from support.published.folders import (
    HEADS,
    INNER,
    LAYERS,
    VOCABULARY,
    WIDTH,
    layer_of,
    stored,
    with_bias,
    write_folder,
)
from support.published.maths import Tensors, frequencies, linear

FED = 32  # 2 / 3 of INNER, rounded up to a multiple of 8
CONFIG: dict[str, Any] = {
    "architectures": ["NeoBERTLMHead"],
    "auto_map": {
        "AutoConfig": "model.NeoBERTConfig",
        "AutoModel": "model.NeoBERT",
        "AutoModelForMaskedLM": "model.NeoBERTLMHead",
        "AutoModelForSequenceClassification": "model.NeoBERTForSequenceClassification",
    },
    "decoder_init_range": 0.02,
    "dim_head": WIDTH // HEADS,
    "embedding_init_range": 0.02,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "kwargs": {"classifier_init_range": 0.02, "trust_remote_code": True},
    "max_length": 64,
    "model_type": "neobert",
    "norm_eps": 1e-05,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "pad_token_id": 0,
    "torch_dtype": "float32",
    "vocab_size": VOCABULARY,
}
_PREFIX = "model."
_SHAPES: dict[str, tuple[int, ...]] = {
    f"{_PREFIX}encoder.weight": (VOCABULARY, WIDTH),
    **layer_of(
        f"{_PREFIX}transformer_encoder",
        {
            "qkv.weight": (3 * WIDTH, WIDTH),
            "wo.weight": (WIDTH, WIDTH),
            "ffn.w12.weight": (2 * FED, WIDTH),
            "ffn.w3.weight": (WIDTH, FED),
            "attention_norm.weight": (WIDTH,),
            "ffn_norm.weight": (WIDTH,),
        },
    ),
    f"{_PREFIX}layer_norm.weight": (WIDTH,),
}


def neobert(folder: Path, **fields: Any) -> Path:
    """A body and its head of tokens."""
    shapes = _SHAPES | with_bias(decoder=(VOCABULARY, WIDTH))
    return write_folder(folder, CONFIG | fields, shapes, "bert")


def neobert_reranker(folder: Path, **fields: Any) -> Path:
    """A body and a head of one label."""
    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    stated = {"architectures": ["NeoBERTForSequenceClassification"], "classifier_dropout": 0.1, **labels}
    shapes = _SHAPES | with_bias(dense=(WIDTH, WIDTH), classifier=(1, WIDTH))
    return write_folder(folder, CONFIG | stated | fields, shapes, "bert")


def neobert_states(folder: Path, ids: list[int]) -> Tensor:
    """States of a text. [tokens, width]"""
    _, tensors = stored(folder)
    tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    states = tensors["encoder.weight"][ids]
    for place in range(LAYERS):
        layer = f"transformer_encoder.{place}"
        states = states + _attended(tensors, layer, _normed(tensors, f"{layer}.attention_norm", states))
        gate, up = linear(tensors, f"{layer}.ffn.w12", _normed(tensors, f"{layer}.ffn_norm", states)).chunk(
            2, -1
        )
        states = states + linear(tensors, f"{layer}.ffn.w3", functional.silu(gate) * up)
    return _normed(tensors, "layer_norm", states)


def neobert_logits(folder: Path, ids: list[int]) -> Tensor:
    """Logits of the head, at the first token."""
    _, tensors = stored(folder)
    read = torch.tanh(linear(tensors, "dense", neobert_states(folder, ids)[0]))
    return linear(tensors, "classifier", read)


def _normed(tensors: Tensors, name: str, states: Tensor) -> Tensor:
    return states * torch.rsqrt((states**2).mean(-1, keepdim=True) + 1e-5) * tensors[f"{name}.weight"]


def _attended(tensors: Tensors, layer: str, states: Tensor) -> Tensor:
    width = WIDTH // HEADS
    packed = linear(tensors, f"{layer}.qkv", states).view(len(states), HEADS, 3 * width)
    query, key, value = packed.chunk(3, dim=-1)
    angles = torch.outer(torch.arange(len(states)).float(), frequencies(10_000, width))
    turns = torch.polar(torch.ones_like(angles), angles)[:, None]

    def turned(part: Tensor) -> Tensor:
        pairs = torch.view_as_complex(part.reshape(*part.shape[:-1], -1, 2).contiguous())
        return torch.view_as_real(pairs * turns).flatten(2)

    mixed = functional.scaled_dot_product_attention(
        turned(query).transpose(0, 1), turned(key).transpose(0, 1), value.transpose(0, 1)
    )
    return linear(tensors, f"{layer}.wo", mixed.transpose(0, 1).reshape(len(states), WIDTH))
