"""Small decoders whose layers are not all of attention."""

from pathlib import Path
from typing import Any

from support import checkpoints

_DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
_DELTA |= {"linear_key_head_dim": 8, "linear_value_head_dim": 6, "head_dim": 8}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_MAMBA = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 4,
}
_NEMOTRON = {
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "ssm_state_size": 8,
    "n_groups": 2,
    "chunk_size": 4,
    "head_dim": 8,
}
_LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
_SHARED = {"shared_expert_intermediate_size": 16}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3.5": ("qwen3_5_text", _DELTA | _LINEAR),  # gated delta rule, gates beside the queries
    "qwen3-next": ("qwen3_next", _DELTA | _LINEAR | _EXPERTS | _SHARED),
    "qwen3.5-moe": ("qwen3_5_moe_text", _DELTA | _LINEAR | _EXPERTS | _SHARED),
    "olmo-hybrid": ("olmo_hybrid", {**_DELTA, "linear_value_head_dim": 8} | _LINEAR),  # three convolutions
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention"]}),  # a convolution alone
    "granite4": (
        "granitemoehybrid",
        _MAMBA | {"layer_types": ["mamba", "attention"], "num_local_experts": 0},
    ),
    "bamba": ("bamba", _MAMBA | {"attn_layer_indices": [1]}),
    "falcon-h1": ("falcon_h1", _MAMBA | {"mamba_d_ssm": 64}),  # both in one layer
    "nemotron-h": (  # layers that mix nothing
        "nemotron_h",
        _NEMOTRON | {"layers_block_type": ["linear_attention", "mlp", "full_attention", "mlp"]},
    ),
}


def hybrid(folder: Path, family: str, *, tokenizer: bool = False, **overrides: Any) -> Path:
    """Writes the checkpoint of a family of `FAMILIES`."""
    model_type, of_family = FAMILIES[family]
    return checkpoints.causal_lm(folder, model_type, tokenizer=tokenizer, **{**of_family, **overrides})
