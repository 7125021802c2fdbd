"""Jina's BERT as it is published: ALiBi both ways, gated MLPs in one matrix; with norms of queries and keys, or not."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from support.published.folders import (
    INNER,
    LAYERS,
    VOCABULARY,
    WIDTH,
    layer_of,
    norms,
    stored,
    with_bias,
    write_folder,
)
from support.published.maths import linear, norm

HEADS = 6  # no power of two
WIDE = 48
_CODE = "jinaai/jina-bert-implementation"
_NAMES = ("Config", "Model", "ForMaskedLM", "ForSequenceClassification")
_AUTO = ("AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoModelForSequenceClassification")
CONFIG: dict[str, Any] = {
    "_name_or_path": _CODE,
    "architectures": ["JinaBertForMaskedLM"],
    "attention_probs_dropout_prob": 0.0,
    "attn_implementation": "torch",
    "auto_map": {
        auto: f"{_CODE}--{'configuration' if name == 'Config' else 'modeling'}_bert.JinaBert{name}"
        for auto, name in zip(_AUTO, _NAMES, strict=True)
    },
    "classifier_dropout": None,
    "emb_pooler": "mean",
    "feed_forward_type": "geglu",
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": WIDE,
    "initializer_range": 0.02,
    "intermediate_size": INNER,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 128,
    "model_type": "bert",
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "pad_token_id": 0,
    "position_embedding_type": "alibi",
    "torch_dtype": "float32",
    "transformers_version": "4.26.0",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": VOCABULARY,
}
assert WIDE != WIDTH  # which `norms` names


def jina_bert(folder: Path, *, with_norms: bool = False, prefix: str = "", **fields: Any) -> Path:
    """A body, as jina-embeddings-v2-base-en is; `with_norms`: as jina-embeddings-v2-base-code is."""
    shapes = _body(with_norms)
    named = {f"{prefix}{name}": shape for name, shape in shapes.items()}
    return write_folder(folder, CONFIG | fields, named, "bert")


def jina_bert_reranker(folder: Path, **fields: Any) -> Path:
    """A cross-encoder, as jina-reranker-v1-tiny-en is, in bf16."""
    shapes = _body(False) | with_bias(pooler__dense=(WIDE, WIDE))
    named = {f"bert.{name}": shape for name, shape in shapes.items()} | with_bias(classifier=(1, WIDE))
    head = {"architectures": ["JinaBertForSequenceClassification"], "num_labels": 1}
    return write_folder(folder, CONFIG | head | fields, named, "bert", dtype=torch.bfloat16)


def _body(with_norms: bool) -> dict[str, tuple[int, ...]]:
    attention = {f"attention__self__{name}": (WIDE, WIDE) for name in ("query", "key", "value")}
    layer = with_bias(**attention, attention__output__dense=(WIDE, WIDE)) | _norms(
        "attention.output.LayerNorm"
    )
    if with_norms:
        layer |= {"mlp.up_gated_layer.weight": (2 * INNER, WIDE)} | with_bias(mlp__down_layer=(WIDE, INNER))
        layer |= _norms(
            "attention.self.layer_norm_q", "attention.self.layer_norm_k", "layer_norm_1", "layer_norm_2"
        )
    else:
        layer |= {"mlp.gated_layers.weight": (2 * INNER, WIDE)} | with_bias(mlp__wo=(WIDE, INNER))
        layer |= _norms("mlp.layernorm")
    return {
        "embeddings.word_embeddings.weight": (VOCABULARY, WIDE),
        "embeddings.token_type_embeddings.weight": (2, WIDE),
        **_norms("embeddings.LayerNorm"),
        **layer_of("encoder.layer", layer),
    }


def _norms(*names: str) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(norms(*names), (WIDE,))


def jina_bert_states(folder: Path, ids: list[int], types: list[int] | None = None) -> Tensor:
    """States of a text. [tokens, width]"""
    config, tensors = stored(folder)
    tensors = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
    eps, heads = config["layer_norm_eps"], config["num_attention_heads"]
    states = tensors["embeddings.word_embeddings.weight"][ids]
    states = states + tensors["embeddings.token_type_embeddings.weight"][types or [0] * len(ids)]
    states = norm(tensors, "embeddings.LayerNorm", states, eps)
    for place in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{place}"
        own = f"{layer}.attention.self"
        query, key, value = (linear(tensors, f"{own}.{name}", states) for name in ("query", "key", "value"))
        if f"{own}.layer_norm_q.weight" in tensors:
            query = norm(tensors, f"{own}.layer_norm_q", query, eps)
            key = norm(tensors, f"{own}.layer_norm_k", key, eps)
        mixed = linear(tensors, f"{layer}.attention.output.dense", _attended(query, key, value, heads))
        mixed = norm(tensors, f"{layer}.attention.output.LayerNorm", mixed + states, eps)
        if f"{layer}.layer_norm_1.weight" in tensors:
            mixed = norm(tensors, f"{layer}.layer_norm_1", states + mixed, eps)
            up, gate = linear(tensors, f"{layer}.mlp.up_gated_layer", mixed).chunk(2, -1)
            fed = linear(tensors, f"{layer}.mlp.down_layer", up * _gated(config, gate))
            states = norm(tensors, f"{layer}.layer_norm_2", mixed + fed, eps)
        else:
            gate, up = linear(tensors, f"{layer}.mlp.gated_layers", mixed).chunk(2, -1)
            fed = linear(tensors, f"{layer}.mlp.wo", _gated(config, gate) * up)
            states = norm(tensors, f"{layer}.mlp.layernorm", fed + mixed, eps)
    return states


def _gated(config: dict[str, Any], states: Tensor) -> Tensor:
    return functional.relu(states) if config["feed_forward_type"] == "reglu" else functional.gelu(states)


def _attended(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Head after head: q k / sqrt(d), less the slope times the distance."""
    width = query.shape[-1] // heads
    mixed = []
    for head, slope in enumerate(_slopes(heads)):
        channels = slice(head * width, (head + 1) * width)
        scores = query[:, channels] @ key[:, channels].T / math.sqrt(width)
        for i in range(len(scores)):
            for j in range(len(scores)):
                scores[i, j] -= slope * abs(i - j)
        mixed.append(torch.softmax(scores, -1) @ value[:, channels])
    return torch.cat(mixed, -1)


def _slopes(heads: int) -> list[float]:
    """Gives slopes as ALiBi's authors do: those of twice as many heads, every other one, fill up a power of two."""
    if math.log2(heads).is_integer():
        start = 2 ** (-(2 ** -(math.log2(heads) - 3)))
        return [start * start**place for place in range(heads)]
    closest = 2 ** math.floor(math.log2(heads))
    return _slopes(closest) + _slopes(2 * closest)[0::2][: heads - closest]


def jina_bert_logits(folder: Path, ids: list[int], types: list[int] | None = None) -> Tensor:
    """Logits of a pair. [labels]"""
    _, tensors = stored(folder)
    first = jina_bert_states(folder, ids, types)[:1]
    return linear(tensors, "classifier", torch.tanh(linear(tensors, "bert.pooler.dense", first)))[0]
