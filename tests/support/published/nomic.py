"""Nomic's BERT as it is published: the fields of GPT-2, a gated MLP of three matrices, no biases."""

from pathlib import Path
from typing import Any

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
