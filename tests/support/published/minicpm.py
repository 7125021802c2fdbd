"""BAAI's layerwise MiniCPM as it is published: a scaled Llama, and heads of one number behind its later layers."""

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
    write_folder,
)
from support.published.maths import frequencies, linear

FIRST = 1
"""First layer with a head."""
CONFIG: dict[str, Any] = {
    "architectures": ["LayerWiseMiniCPMForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_minicpm_reranker.LayerWiseMiniCPMConfig",
        "AutoModel": "modeling_minicpm_reranker.LayerWiseMiniCPMModel",
        "AutoModelForCausalLM": "modeling_minicpm_reranker.LayerWiseMiniCPMForCausalLM",
    },
    "bos_token_id": 1,
    "dim_model_base": 256,
    "eos_token_id": 2,
    "head_multi": True,
    "head_type": "simple",
    "hidden_act": "silu",
    "hidden_size": WIDTH,
    "initializer_range": 0.1,
    "intermediate_size": INNER,
    "max_position_embeddings": 64,
    "model_type": "minicpm",
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": HEADS,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "scale_depth": 1.4,
    "scale_emb": 12,
    "start_layer": FIRST,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.38.1",
    "use_cache": False,
    "vocab_size": VOCABULARY,
}
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def minicpm(folder: Path, **fields: Any) -> Path:
    """A layerwise reranker, as bge-reranker-v2-minicpm-layerwise is."""
    layer: dict[str, tuple[int, ...]] = {f"self_attn.{name}.weight": (WIDTH, WIDTH) for name in _ATTENTION}
    layer |= {f"mlp.{name}_proj.weight": (INNER, WIDTH) for name in ("gate", "up")}
    layer |= {"mlp.down_proj.weight": (WIDTH, INNER)}
    layer |= {f"{name}_layernorm.weight": (WIDTH,) for name in ("input", "post_attention")}
    shapes = {
        "model.embed_tokens.weight": (VOCABULARY, WIDTH),
        **layer_of("model.layers", layer),
        "model.norm.weight": (WIDTH,),
        **{f"lm_head.{place}.linear_head.weight": (1, WIDTH) for place in range(LAYERS - FIRST + 1)},
    }
    return write_folder(folder, CONFIG | fields, shapes)


def minicpm_logit(folder: Path, ids: list[int], last: int = LAYERS) -> float:
    """The score of a text at its last token, behind `last` layers."""
    config, tensors = stored(folder)
    scale = config["scale_depth"] / config["num_hidden_layers"] ** 0.5
    states = tensors["model.embed_tokens.weight"][ids] * config["scale_emb"]
    for place in range(last):
        layer = f"model.layers.{place}"
        states = states + scale * _attended(
            tensors, layer, _normed(tensors, f"{layer}.input_layernorm", states)
        )
        inner = _normed(tensors, f"{layer}.post_attention_layernorm", states)
        gate, up = (linear(tensors, f"{layer}.mlp.{name}_proj", inner) for name in ("gate", "up"))
        states = states + scale * linear(tensors, f"{layer}.mlp.down_proj", functional.silu(gate) * up)
    read = _normed(tensors, "model.norm", states)[-1]
    return float(linear(tensors, f"lm_head.{last - FIRST}.linear_head", read))


def _normed(tensors: dict[str, Tensor], name: str, states: Tensor) -> Tensor:
    return states * torch.rsqrt((states**2).mean(-1, keepdim=True) + 1e-5) * tensors[f"{name}.weight"]


def _attended(tensors: dict[str, Tensor], layer: str, states: Tensor) -> Tensor:
    size, width = len(states), WIDTH // HEADS
    angles = torch.outer(torch.arange(size).float(), frequencies(10_000, width)).repeat(1, 2)

    def heads(name: str, *, turned: bool) -> Tensor:
        rows = (
            linear(tensors, f"{layer}.self_attn.{name}", states).reshape(size, HEADS, width).transpose(0, 1)
        )
        first, second = rows.chunk(2, dim=-1)
        return rows * angles.cos() + torch.cat((-second, first), -1) * angles.sin() if turned else rows

    query, key = (heads(name, turned=True) for name in ("q_proj", "k_proj"))
    mixed = functional.scaled_dot_product_attention(query, key, heads("v_proj", turned=False), is_causal=True)
    return linear(tensors, f"{layer}.self_attn.o_proj", mixed.transpose(0, 1).reshape(size, WIDTH))
