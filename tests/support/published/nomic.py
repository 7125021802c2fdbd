"""Nomic's BERT as it is published: the fields of GPT-2, a gated MLP of three matrices, no biases."""

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

_CODE = "nomic-ai/nomic-bert-2048"
CONFIG: dict[str, Any] = {
    "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "attn_pdrop": 0.0,
    "auto_map": {
        "AutoConfig": f"{_CODE}--configuration_hf_nomic_bert.NomicBertConfig",
        "AutoModel": f"{_CODE}--modeling_hf_nomic_bert.NomicBertModel",
        "AutoModelForMaskedLM": f"{_CODE}--modeling_hf_nomic_bert.NomicBertForPreTraining",
    },
    "bos_token_id": None,
    "causal": False,
    "dense_seq_output": True,
    "embd_pdrop": 0.0,
    "eos_token_id": None,
    "fused_bias_fc": True,
    "fused_dropout_add_ln": True,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 64,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "model_type": "nomic_bert",
    "n_embd": WIDTH,
    "n_head": HEADS,
    "n_inner": INNER,
    "n_layer": LAYERS,
    "n_positions": 256,
    "pad_vocab_size_multiple": 64,
    "parallel_block": False,
    "parallel_block_tied_norm": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "reorder_and_upcast_attn": False,
    "resid_pdrop": 0.0,
    "rotary_emb_base": 500,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "summary_activation": None,
    "summary_first_dropout": 0.0,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "torch_dtype": "float32",
    "transformers_version": "4.34.0",
    "type_vocab_size": 2,
    "use_cache": True,
    "use_flash_attn": True,
    "use_rms_norm": False,
    "use_xentropy": True,
    "vocab_size": VOCABULARY,
}
ROWS = 128  # the table is as long as pad_vocab_size_multiple has it


def nomic(folder: Path, **fields: Any) -> Path:
    """A body, as nomic-embed-text-v1.5 and snowflake-arctic-embed-m-long are."""
    layer = {
        "attn.Wqkv.weight": (3 * WIDTH, WIDTH),
        "attn.out_proj.weight": (WIDTH, WIDTH),
        "mlp.fc11.weight": (INNER, WIDTH),
        "mlp.fc12.weight": (INNER, WIDTH),
        "mlp.fc2.weight": (WIDTH, INNER),
    }
    shapes = {
        "embeddings.word_embeddings.weight": (ROWS, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        **norms("emb_ln"),
        **layer_of("encoder.layers", layer | norms("norm1", "norm2")),
    }
    return write_folder(folder, CONFIG | fields, shapes, "bert")


def nomic_states(folder: Path, ids: list[int], types: list[int] | None = None) -> Tensor:
    """States of a text. [tokens, width]"""
    config, tensors = stored(folder)
    eps, heads = config["layer_norm_epsilon"], config["n_head"]
    states = tensors["embeddings.word_embeddings.weight"][ids]
    states = states + tensors["embeddings.token_type_embeddings.weight"][types or [0] * len(ids)]
    states = norm(tensors, "emb_ln", states, eps)
    inverse = frequencies(config["rotary_emb_base"], WIDTH // heads)
    for place in range(config["n_layer"]):
        layer = f"encoder.layers.{place}"
        packed = linear(tensors, f"{layer}.attn.Wqkv", states)
        mixed = linear(tensors, f"{layer}.attn.out_proj", attended(packed, heads, inverse))
        states = norm(tensors, f"{layer}.norm1", states + mixed, eps)
        up, gate = (linear(tensors, f"{layer}.mlp.{name}", states) for name in ("fc11", "fc12"))
        fed = linear(tensors, f"{layer}.mlp.fc2", up * functional.silu(gate))
        states = norm(tensors, f"{layer}.norm2", states + fed, eps)
    return states


MOE_CONFIG: dict[str, Any] = CONFIG | {
    "activation_function": "gelu",
    "add_pooling_layer": False,
    "embd_pdrop": 0.1,
    "expert_choice_router": False,
    "ffn_div": 1,
    "layer_norm_epsilon": 1e-05,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": True,
    "mlp_fc2_bias": True,
    "moe_every_n_layers": 2,
    "moe_impl": "megablocks",
    "moe_normalize_expert_weights": False,
    "moe_resid_pdrop": 0.0,
    "moe_top_k": 2,
    "num_experts": 5,
    "num_shared_experts": 0,
    "pad_token_id": 0,
    "qkv_proj_bias": True,
    "rotary_emb_base": 10000.0,
    "router_aux_loss_coef": 0.1,
    "type_vocab_size": 1,
}


def nomic_moe(folder: Path, **fields: Any) -> Path:
    """A body with experts in its second layer, as nomic-embed-text-v2-moe has in every other one."""
    config = MOE_CONFIG | fields
    shared = with_bias(attn__Wqkv=(3 * WIDTH, WIDTH), attn__out_proj=(WIDTH, WIDTH)) | norms("norm1", "norm2")
    dense = with_bias(mlp__fc1=(INNER, WIDTH), mlp__fc2=(WIDTH, INNER))
    experts = {
        "mlp.router.layer.weight": (config["num_experts"], WIDTH),
        "mlp.experts.mlp.w1": (config["num_experts"] * INNER, WIDTH),
        "mlp.experts.mlp.w2": (config["num_experts"] * INNER, WIDTH),
        "mlp.experts.bias": (WIDTH,),
    }
    shapes = {
        "embeddings.word_embeddings.weight": (ROWS, WIDTH),
        "embeddings.token_type_embeddings.weight": (1, WIDTH),
    }
    shapes |= norms("emb_ln")
    for place in range(LAYERS):
        layer = shared | (experts if place % config["moe_every_n_layers"] == 1 else dense)
        shapes |= {f"encoder.layers.{place}.{name}": shape for name, shape in layer.items()}
    return write_folder(folder, config, shapes)


def nomic_moe_states(folder: Path, ids: list[int]) -> Tensor:
    """States of a text, each token's experts by themselves. [tokens, width]"""
    config, tensors = stored(folder)
    eps, heads = config["layer_norm_epsilon"], config["n_head"]
    states = (
        tensors["embeddings.word_embeddings.weight"][ids]
        + tensors["embeddings.token_type_embeddings.weight"][0]
    )
    states = norm(tensors, "emb_ln", states, eps)
    inverse = frequencies(config["rotary_emb_base"], WIDTH // heads)
    for place in range(config["n_layer"]):
        layer = f"encoder.layers.{place}"
        packed = linear(tensors, f"{layer}.attn.Wqkv", states)
        mixed = linear(tensors, f"{layer}.attn.out_proj", attended(packed, heads, inverse))
        states = norm(tensors, f"{layer}.norm1", states + mixed, eps)
        if f"{layer}.mlp.router.layer.weight" in tensors:
            fed = _routed(tensors, f"{layer}.mlp", states, config["num_experts"], config["moe_top_k"])
        else:
            fed = linear(
                tensors, f"{layer}.mlp.fc2", functional.gelu(linear(tensors, f"{layer}.mlp.fc1", states))
            )
        states = norm(tensors, f"{layer}.norm2", states + fed, eps)
    return states


def _routed(tensors: dict[str, Tensor], name: str, states: Tensor, experts: int, top: int) -> Tensor:
    first, second = (
        tensors[f"{name}.experts.mlp.{part}"].view(experts, INNER, WIDTH) for part in ("w1", "w2")
    )
    rows = []
    for state in states:
        shares = torch.softmax(tensors[f"{name}.router.layer.weight"] @ state, 0)
        row = tensors[f"{name}.experts.bias"].clone()
        for expert in shares.argsort(descending=True)[:top].tolist():
            row += shares[expert] * (functional.gelu(first[expert] @ state) @ second[expert])
        rows.append(row)
    return torch.stack(rows)
