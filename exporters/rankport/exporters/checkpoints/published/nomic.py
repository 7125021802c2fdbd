"""Nomic's BERT (code of nomic-ai/nomic-bert-2048; snowflake-arctic-embed-m-long too): transformers' Nomic BERT."""

from collections.abc import Collection
from typing import Final

from rankport.exporters.checkpoints.published.layout import (
    Fields,
    FieldTable,
    PublishedLayout,
    PublishedModel,
    padded_vocabulary,
    renamed_class,
    tensor_names,
)

CODE: Final = "nomic-ai/nomic-bert-2048"
_CLASSES = {"NomicBertModel": "NomicBertModel", "NomicBertForPreTraining": "NomicBertForMaskedLM"}
_FIELDS = FieldTable(
    needed=(
        *("n_embd", "n_layer", "n_head", "n_inner", "n_positions", "vocab_size", "type_vocab_size"),
        *("layer_norm_epsilon", "rotary_emb_base", "rotary_emb_fraction", "activation_function"),
    ),
    renamed={
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_positions": "max_position_embeddings",
        "layer_norm_epsilon": "layer_norm_eps",
    },
    values={
        "activation_function": ("swiglu",),
        "prenorm": (False,),
        "parallel_block": (False,),
        "parallel_block_tied_norm": (False,),
        "causal": (False,),
        "use_rms_norm": (False, None),
        "qkv_proj_bias": (False,),
        "mlp_fc1_bias": (False,),
        "mlp_fc2_bias": (False,),
        "norm_mlp": (False, None),
        "num_heads_kv": (None,),
        "num_experts": (0, None),
        "rotary_emb_fraction": (1.0,),
        "rotary_emb_interleaved": (False,),
        "rotary_emb_scale_base": (None,),
        "rotary_head_dim": (False, None),
    },
    unread=(
        # of GPT-2, whose config it extends
        *("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "n_ctx"),
        # read below
        *("rotary_emb_base", "rotary_scaling_factor", "max_trained_positions", "pad_vocab_size_multiple"),
    ),
    foreign=(
        "rope_parameters",
        "rope_theta",
        "rope_scaling",
        "head_dim",
        "partial_rotary_factor",
        "hidden_act",
    ),
)
_TENSORS = tensor_names(
    "bert.",
    {
        r"encoder\.layers\.(\d+)\.attn\.Wqkv\.weight": (
            "layers.{0}.self_attn.q_proj.weight",
            "layers.{0}.self_attn.k_proj.weight",
            "layers.{0}.self_attn.v_proj.weight",
        ),
        r"encoder\.layers\.(\d+)\.attn\.out_proj\.weight": "layers.{0}.self_attn.o_proj.weight",
        r"encoder\.layers\.(\d+)\.mlp\.fc11\.weight": "layers.{0}.mlp.up_proj.weight",
        r"encoder\.layers\.(\d+)\.mlp\.fc12\.weight": "layers.{0}.mlp.gate_proj.weight",
        r"encoder\.layers\.(\d+)\.mlp\.fc2\.weight": "layers.{0}.mlp.down_proj.weight",
        r"encoder\.layers\.(\d+)\.norm1\.(weight|bias)": "layers.{0}.post_attention_layernorm.{1}",
        r"encoder\.layers\.(\d+)\.norm2\.(weight|bias)": "layers.{0}.post_mlp_layernorm.{1}",
        r"emb_ln\.(weight|bias)": "embeddings.LayerNorm.{0}",
    },
)


def _matches(raw: Fields, tensors: Collection[str]) -> bool:
    return raw.get("model_type") == "nomic_bert" and "n_embd" in raw


def _read(raw: Fields) -> PublishedModel:
    fields = _FIELDS.translate(raw, CODE) | padded_vocabulary(raw)
    rope = {"rope_type": "default", "rope_theta": float(raw["rotary_emb_base"])}
    fields |= {
        "hidden_act": "silu",
        "rope_parameters": rope,
        "architectures": renamed_class(raw, _CLASSES, CODE),
    }
    scaled, notes = _trained_positions(raw)
    return PublishedModel(fields | scaled, _TENSORS, notes)


def _trained_positions(raw: Fields) -> tuple[dict[str, int], tuple[str, ...]]:
    """Bounds texts where rotary frequencies would follow the longest of a pass, as `rotary_scaling_factor` asks."""
    factor, trained = raw.get("rotary_scaling_factor"), raw.get("max_trained_positions") or 2048
    if not factor:
        return {}, ()
    note = (
        f"rotary_scaling_factor {factor}: up to {trained} tokens (max_trained_positions) it changes nothing; longer "
        "texts, whose frequencies follow the longest of a pass, are cut"
    )
    return {"max_position_embeddings": min(int(trained), int(raw["n_positions"]))}, (note,)


LAYOUT: Final = PublishedLayout(CODE, frozenset(("NomicBertConfig", *_CLASSES)), _matches, _read)
