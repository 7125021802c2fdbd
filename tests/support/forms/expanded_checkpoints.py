"""Checkpoints in the format that Control LLM writes, made of random tensors without any model code.

The format was read in its sources (linkedin/ControlLLM at 7657b9f): config.json holds all fields of the original family
beside `expansion`; a pair's tensors lie under `pretrained_layer` and `expanded_layer`, the merge's beside them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from support.checkpoints import VOCABULARY, tiny_tokenizer

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN = 32, 4, 2, 8, 48
EXPERTS, CHOSEN = 3, 2
FAMILIES = ("llama", "mistral", "mixtral", "qwen2")
MERGE_METHODS = ("lerp", "slerp", "dlerp", "dlerpin", "moe", "proj", "prog")


@dataclass(frozen=True, slots=True)
class Layout:
    """What expanding a model of so many layers makes of it."""

    layers: int
    frozen: tuple[int, ...]
    pairs: tuple[int, ...]
    attentions: int


LAYOUTS = {
    "stack": Layout(layers=3, frozen=(0, 1), pairs=(), attentions=3),  # 2 layers, one added
    "concat": Layout(layers=4, frozen=(0, 2), pairs=(1, 3), attentions=6),  # 4 layers, 2 expanded
    "hybrid": Layout(layers=3, frozen=(0,), pairs=(2,), attentions=4),  # 2 layers: one added, one expanded
}

# The least that has each kind of layer: what is traced costs by the layer.
ONE_PAIR = Layout(layers=2, frozen=(0,), pairs=(1,), attentions=3)
TWO_PAIRS = Layout(layers=3, frozen=(0,), pairs=(1, 2), attentions=5)
ONE_ADDED = Layout(layers=2, frozen=(0,), pairs=(), attentions=2)

_CLASSES = {"llama": "Llama", "mistral": "Mistral", "mixtral": "Mixtral", "qwen2": "Qwen2"}
_FIELDS: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1, "rope_scaling": None},
    "mistral": {"sliding_window": None, "head_dim": HEAD_DIM},
    "mixtral": {
        "sliding_window": None,
        "num_local_experts": EXPERTS,
        "num_experts_per_tok": CHOSEN,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
    },
    "qwen2": {"use_sliding_window": False, "sliding_window": None, "max_window_layers": 1},
}


def expanded_checkpoint(
    folder: Path,
    family: str = "llama",
    expand_type: str = "concat",
    merge_method: str = "lerp",
    *,
    norm_alpha: float = 0,
    factor: float | None = 0.4,
    tied: bool = False,
    tokenizer: bool = False,
    twins: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    fields: dict[str, Any] | None = None,
    layout: Layout | None = None,
) -> Path:
    """Writes config.json and model.safetensors. `twins`: both layers of a pair are equal, as before training."""
    folder.mkdir(parents=True)
    layout = layout or LAYOUTS[expand_type]
    config = _config(family, layout, expand_type, merge_method, norm_alpha, factor) | {
        "tie_word_embeddings": tied
    }
    (folder / "config.json").write_text(json.dumps(config | (fields or {})))
    make = torch.Generator().manual_seed(seed)
    tensors = {
        "model.embed_tokens.weight": _normal(make, VOCABULARY, HIDDEN),
        "model.norm.weight": _norm(make),
    }
    if not tied:
        tensors["lm_head.weight"] = _normal(make, VOCABULARY, HIDDEN)
    for layer in range(layout.layers):
        at = f"model.layers.{layer}."
        original = _layer(make, family)
        if layer not in layout.pairs:
            tensors |= {at + name: tensor for name, tensor in original.items()}
            continue
        expanded = {name: one.clone() for name, one in original.items()} if twins else _layer(make, family)
        if norm_alpha == -1:
            expanded |= {f"{norm}.interpolation_factor": torch.rand(1, generator=make) * 3 for norm in _NORMS}
        tensors |= {f"{at}pretrained_layer.{name}": tensor for name, tensor in original.items()}
        tensors |= {f"{at}expanded_layer.{name}": tensor for name, tensor in expanded.items()}
        tensors |= {at + name: tensor for name, tensor in _merge(make, merge_method, factor).items()}
    save_file(
        {name: tensor.to(dtype) for name, tensor in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    if tokenizer:
        tiny_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


_NORMS = ("input_layernorm", "post_attention_layernorm")


def _config(
    family: str, layout: Layout, expand_type: str, merge_method: str, norm_alpha: float, factor: float | None
) -> dict[str, Any]:
    stacked = expand_type == "stack"
    original = f"{_CLASSES[family]}ForCausalLM"
    return {
        "architectures": [original if stacked else f"{original}Expansion"],
        "model_type": family if stacked else "causallmexpansion",
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "expansion": {
            "expand_type": expand_type,
            "merge_method": merge_method,
            "freezed_layers": list(layout.frozen),
            "expanded_from": f"/models/{family}-base",
            "num_ori_layers": layout.layers if expand_type == "concat" else 2,
            "num_exp_layers": 1 if stacked else 2,
            "interpolation_factor": factor,
            "interpolation_loss_alpha": 1,
            "interpolation_loss_type": "mse",
            "interpolation_norm_alpha": norm_alpha,
            "freeze_interpolation_factor": True,
            "freeze_ori_layers": True,
            "freeze_ori_non_layers": True,
        },
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": FFN,
        "max_position_embeddings": 128,
        "num_attention_heads": HEADS,
        "num_hidden_layers": layout.layers,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "torch_dtype": "float32",
        "trained_from": f"/models/{family}-base",
        "transformers_version": "4.45.0",
        "use_cache": True,
        "vocab_size": VOCABULARY,
    } | _FIELDS[family]


def _layer(make: torch.Generator, family: str) -> dict[str, Tensor]:
    widths = {"q": HEADS * HEAD_DIM, "k": KV_HEADS * HEAD_DIM, "v": KV_HEADS * HEAD_DIM}
    tensors = {f"self_attn.{one}_proj.weight": _normal(make, width, HIDDEN) for one, width in widths.items()}
    if family == "qwen2":
        tensors |= {f"self_attn.{one}_proj.bias": _normal(make, width) for one, width in widths.items()}
    return tensors | {
        "self_attn.o_proj.weight": _normal(make, HIDDEN, HEADS * HEAD_DIM),
        "input_layernorm.weight": _norm(make),
        "post_attention_layernorm.weight": _norm(make),
        **_mlp(make, family),
    }


def _mlp(make: torch.Generator, family: str) -> dict[str, Tensor]:
    if family != "mixtral":
        return {f"mlp.{name}_proj.weight": one for name, one in _swiglu(make, ("gate", "up", "down")).items()}
    tensors = {"block_sparse_moe.gate.weight": _normal(make, EXPERTS, HIDDEN)}
    for expert in range(EXPERTS):
        at = f"block_sparse_moe.experts.{expert}."
        tensors |= {f"{at}{name}.weight": one for name, one in _swiglu(make, ("w1", "w3", "w2")).items()}
    return tensors


def _swiglu(make: torch.Generator, names: tuple[str, str, str]) -> dict[str, Tensor]:
    gate, up, down = names
    return {
        gate: _normal(make, FFN, HIDDEN),
        up: _normal(make, FFN, HIDDEN),
        down: _normal(make, HIDDEN, FFN),
    }


def _merge(make: torch.Generator, merge_method: str, factor: float | None) -> dict[str, Tensor]:
    number = {} if factor is None else {"interpolation_factor": torch.tensor([factor])}
    weighing = {"interp_weight.fc.bias": torch.tensor([factor or 0.0])}
    made: dict[str, dict[str, Tensor]] = {
        "lerp": number,
        "slerp": number,
        "dlerp": weighing | {"interp_weight.fc.weight": _normal(make, 1, 2 * HIDDEN)},
        "dlerpin": weighing | {"interp_weight.fc.weight": _normal(make, 1, HIDDEN)},
        "moe": {
            "gating.gate_network.0.weight": _normal(make, 2, HIDDEN),
            "gating.gate_network.0.bias": torch.tensor([0.0, factor or 0.0]),
        },
        "proj": number | {"linear_proj.weight": torch.eye(HIDDEN) + 0.1 * _normal(make, HIDDEN, HIDDEN)},
        "prog": number
        | {"lateral_connection.weight": torch.eye(HIDDEN) + 0.1 * _normal(make, HIDDEN, HIDDEN)},
    }
    return made[merge_method]


def _normal(make: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=make) * 0.2


def _norm(make: torch.Generator) -> Tensor:
    return 1 + 0.1 * torch.randn(HIDDEN, generator=make)
