"""GTE as Alibaba publishes it: `model_type` new, q, k and v in one matrix, up and gate in one."""

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
    norms,
    stored,
    with_bias,
    write_folder,
)
from support.published.maths import attended, frequencies, linear, norm

_REPOSITORY = "Alibaba-NLP/new-impl"
CONFIG: dict[str, Any] = {
    "architectures": ["NewModel", "NewForTokenClassification"],
    "attention_probs_dropout_prob": 0.0,
    "auto_map": {
        "AutoConfig": f"{_REPOSITORY}--configuration.NewConfig",
        "AutoModel": f"{_REPOSITORY}--modeling.NewModel",
        "AutoModelForMaskedLM": f"{_REPOSITORY}--modeling.NewForMaskedLM",
        "AutoModelForMultipleChoice": f"{_REPOSITORY}--modeling.NewForMultipleChoice",
        "AutoModelForQuestionAnswering": f"{_REPOSITORY}--modeling.NewForQuestionAnswering",
        "AutoModelForSequenceClassification": f"{_REPOSITORY}--modeling.NewForSequenceClassification",
        "AutoModelForTokenClassification": f"{_REPOSITORY}--modeling.NewForTokenClassification",
    },
    "classifier_dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": WIDTH,
    "id2label": {"0": "LABEL_0"},
    "initializer_range": 0.02,
    "intermediate_size": INNER,
    "label2id": {"LABEL_0": 0},
    "layer_norm_eps": 1e-12,
    "layer_norm_type": "layer_norm",
    "logn_attention_clip1": False,
    "logn_attention_scale": False,
    "max_position_embeddings": 128,
    "model_type": "new",
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "pack_qkv": True,
    "pad_token_id": 0,
    "position_embedding_type": "rope",
    "rope_scaling": {"factor": 8.0, "type": "ntk"},
    "rope_theta": 20000,
    "torch_dtype": "float32",
    "transformers_version": "4.39.1",
    "type_vocab_size": 1,
    "unpad_inputs": False,
    "use_memory_efficient_attention": False,
    "vocab_size": VOCABULARY,
}


def gte(folder: Path, *, prefix: str = "new.", types: int = 1, **fields: Any) -> Path:
    """A body, its head for tokens beside it, as gte-multilingual-base is."""
    shapes = _body(types, fields.get("pack_qkv", True))
    named = {f"{prefix}{name}": shape for name, shape in shapes.items()} | with_bias(classifier=(1, WIDTH))
    return write_folder(
        folder, CONFIG | {"type_vocab_size": types} | fields, named, "bert" if types > 1 else "roberta"
    )


def gte_reranker(folder: Path, **fields: Any) -> Path:
    """A cross-encoder, as gte-multilingual-reranker-base is, in fp16."""
    shapes = _body(1, True) | with_bias(pooler__dense=(WIDTH, WIDTH))
    named = {f"new.{name}": shape for name, shape in shapes.items()} | with_bias(classifier=(1, WIDTH))
    config = CONFIG | {"architectures": ["NewForSequenceClassification"], "torch_dtype": "float16"} | fields
    return write_folder(folder, config, named, dtype=torch.float16)


def _body(types: int, packed: bool) -> dict[str, tuple[int, ...]]:
    attention = {"attention__qkv_proj": (3 * WIDTH, WIDTH)}
    if not packed:
        attention = {f"attention__{name}_proj": (WIDTH, WIDTH) for name in "qkv"}
    layer = with_bias(**attention, attention__o_proj=(WIDTH, WIDTH), mlp__down_proj=(WIDTH, INNER))
    layer |= {"mlp.up_gate_proj.weight": (2 * INNER, WIDTH)} | norms("attn_ln", "mlp_ln")
    shapes = {"embeddings.word_embeddings.weight": (VOCABULARY, WIDTH)} | norms("embeddings.LayerNorm")
    if types:
        shapes["embeddings.token_type_embeddings.weight"] = (types, WIDTH)
    return shapes | layer_of("encoder.layer", layer)


def gte_states(folder: Path, ids: list[int], types: list[int] | None = None) -> Tensor:
    """States of a text. [tokens, width]"""
    config, tensors = stored(folder)
    tensors = {name.removeprefix("new."): tensor for name, tensor in tensors.items()}
    eps, heads = config["layer_norm_eps"], config["num_attention_heads"]
    states = tensors["embeddings.word_embeddings.weight"][ids]
    if config["type_vocab_size"]:
        states = states + tensors["embeddings.token_type_embeddings.weight"][types or [0] * len(ids)]
    states = norm(tensors, "embeddings.LayerNorm", states, eps)
    width = WIDTH // heads
    inverse, scaling = frequencies(config["rope_theta"], width), config["rope_scaling"]
    if scaling is not None:
        factor = scaling["factor"]
        inverse = frequencies(config["rope_theta"] * factor, width) / factor ** (2 / width)
    for place in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{place}"
        if config["pack_qkv"]:
            packed = linear(tensors, f"{layer}.attention.qkv_proj", states)
        else:
            packed = torch.cat(
                [linear(tensors, f"{layer}.attention.{name}_proj", states) for name in "qkv"], -1
            )
        mixed = linear(tensors, f"{layer}.attention.o_proj", attended(packed, heads, inverse))
        states = norm(tensors, f"{layer}.attn_ln", states + mixed, eps)
        up, gate = linear(tensors, f"{layer}.mlp.up_gate_proj", states).chunk(2, -1)
        fed = linear(tensors, f"{layer}.mlp.down_proj", functional.gelu(gate) * up)
        states = norm(tensors, f"{layer}.mlp_ln", states + fed, eps)
    return states


def gte_logits(folder: Path, ids: list[int]) -> Tensor:
    """Logits of a pair. [labels]"""
    _, tensors = stored(folder)
    first = gte_states(folder, ids)[:1]
    return linear(tensors, "classifier", torch.tanh(linear(tensors, "new.pooler.dense", first)))[0]
