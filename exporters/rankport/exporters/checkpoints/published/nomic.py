"""Nomic's BERT (code of nomic-ai/nomic-bert-2048; snowflake-arctic-embed-m-long too): transformers' Nomic BERT.

nomic-embed-text-v2-moe has biases, MLPs without a gate, and experts in every other layer: a class of rankport's own.
"""

from collections.abc import Collection, Mapping
from typing import Final

from rankport.exporters.checkpoints.published.classes.nomic_moe_config import CLASS as MOE_CLASS
from rankport.exporters.checkpoints.published.classes.nomic_moe_config import MODEL_TYPE as MOE_TYPE
from rankport.exporters.checkpoints.published.layout import (
    Fields,
    FieldTable,
    PublishedLayout,
    PublishedModel,
    number_of,
    padded_vocabulary,
    renamed_class,
    tensor_names,
)

CODE: Final = "nomic-ai/nomic-bert-2048"
_CLASSES = {"NomicBertModel": "NomicBertModel", "NomicBertForPreTraining": "NomicBertForMaskedLM"}
_NEEDED = (
    *("n_embd", "n_layer", "n_head", "n_inner", "n_positions", "vocab_size", "type_vocab_size"),
    *("layer_norm_epsilon", "rotary_emb_base", "rotary_emb_fraction", "activation_function"),
)
_RENAMED = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
}
_VALUES: Mapping[str, tuple[object, ...]] = {
    "prenorm": (False,),
    "parallel_block": (False,),
    "parallel_block_tied_norm": (False,),
    "causal": (False,),
    "use_rms_norm": (False, None),
    "norm_mlp": (False, None),
    "num_heads_kv": (None,),
    "rotary_emb_fraction": (1.0,),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_scale_base": (None,),
    "rotary_head_dim": (False, None),
}
_UNREAD = (
    # of GPT-2, whose config it extends
    *("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "n_ctx"),
    # read below
    *("rotary_emb_base", "rotary_scaling_factor", "max_trained_positions", "pad_vocab_size_multiple"),
)
_FOREIGN = (
    *("rope_parameters", "rope_theta", "rope_scaling", "partial_rotary_factor", "head_dim", "hidden_act"),
    "is_decoder",
)
_GATED = FieldTable(
    needed=_NEEDED,
    renamed=_RENAMED,
    values={
        **_VALUES,
        "activation_function": ("swiglu",),
        "qkv_proj_bias": (False,),
        "mlp_fc1_bias": (False,),
        "mlp_fc2_bias": (False,),
        "num_experts": (0, None),
    },
    # of experts, where there are none
    unread=(*_UNREAD, "moe_top_k", "moe_every_n_layers", "moe_impl", "ffn_div"),
    foreign=_FOREIGN,
)
_OF_EXPERTS = FieldTable(
    needed=(*_NEEDED, "num_experts", "moe_top_k", "moe_every_n_layers"),
    renamed=_RENAMED,
    values={
        **_VALUES,
        "activation_function": ("gelu",),
        "qkv_proj_bias": (True,),
        "mlp_fc1_bias": (True,),
        "mlp_fc2_bias": (True,),
        "moe_normalize_expert_weights": (False,),
        "num_shared_experts": (0,),
        "expert_choice_router": (False,),
        "ffn_div": (1,),
        "add_pooling_layer": (False,),
    },
    unread=(*_UNREAD, "moe_impl", "router_aux_loss_coef"),
    foreign=_FOREIGN,
)
_GATED_TENSORS = tensor_names(
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
_LAYER = r"encoder\.layers\.(\d+)\."
_OF_EXPERTS_TENSORS = tensor_names(
    "bert.",
    {
        rf"{_LAYER}attn\.Wqkv\.(weight|bias)": (
            "layers.{0}.self_attn.q_proj.{1}",
            "layers.{0}.self_attn.k_proj.{1}",
            "layers.{0}.self_attn.v_proj.{1}",
        ),
        rf"{_LAYER}attn\.out_proj\.(weight|bias)": "layers.{0}.self_attn.o_proj.{1}",
        rf"{_LAYER}mlp\.(fc[12]\.(?:weight|bias))": "layers.{0}.mlp.{1}",
        rf"{_LAYER}mlp\.router\.layer\.weight": "layers.{0}.mlp.router.weight",
        rf"{_LAYER}mlp\.experts\.mlp\.w1": "layers.{0}.mlp.up",
        rf"{_LAYER}mlp\.experts\.mlp\.w2": "layers.{0}.mlp.down",
        rf"{_LAYER}mlp\.experts\.bias": "layers.{0}.mlp.bias",
        rf"{_LAYER}norm1\.(weight|bias)": "layers.{0}.post_attention_layernorm.{1}",
        rf"{_LAYER}norm2\.(weight|bias)": "layers.{0}.post_mlp_layernorm.{1}",
        r"emb_ln\.(weight|bias)": "embeddings.LayerNorm.{0}",
    },
)


def _matches(raw: Fields, tensors: Collection[str]) -> bool:
    return raw.get("model_type") == "nomic_bert" and "n_embd" in raw


def _read(raw: Fields) -> PublishedModel:
    has_experts = bool(raw.get("num_experts"))
    table, tensors = (_OF_EXPERTS, _OF_EXPERTS_TENSORS) if has_experts else (_GATED, _GATED_TENSORS)
    fields = table.translate(raw, CODE) | padded_vocabulary(raw)
    if fields.get("pad_token_id") is None:  # which decides nothing that is computed
        fields.pop("pad_token_id", None)
    rope = {"rope_type": "default", "rope_theta": number_of(raw, "rotary_emb_base")}
    classes = {"NomicBertModel": MOE_CLASS} if has_experts else _CLASSES
    fields |= {"rope_parameters": rope, "architectures": renamed_class(raw, classes, CODE)}
    fields |= {"hidden_act": "gelu", "model_type": MOE_TYPE} if has_experts else {"hidden_act": "silu"}
    scaled, notes = _trained_positions(raw)
    if has_experts:
        own = f"{MOE_CLASS} is rankport's own, of the published maths: transformers has no experts of it"
        notes = (own, *notes)
    return PublishedModel(fields | scaled, tensors, notes, classes=frozenset(classes.values()))


def _trained_positions(raw: Fields) -> tuple[dict[str, int], tuple[str, ...]]:
    """Bounds texts where rotary frequencies would follow the longest of a pass, as `rotary_scaling_factor` asks."""
    factor = raw.get("rotary_scaling_factor")
    if not factor:
        return {}, ()
    trained = int(number_of({"max_trained_positions": 2048, **raw}, "max_trained_positions"))
    note = (
        f"rotary_scaling_factor {factor}: up to {trained} tokens (max_trained_positions) it changes nothing; longer "
        "texts, whose frequencies follow the longest of a pass, are cut"
    )
    return {"max_position_embeddings": min(trained, int(number_of(raw, "n_positions")))}, (note,)


_HEADS = ("SequenceClassification", "TokenClassification", "MultipleChoice", "QuestionAnswering")
LAYOUT: Final = PublishedLayout(
    CODE,
    frozenset(("NomicBertConfig", *_CLASSES, *(f"NomicBertFor{head}" for head in _HEADS))),
    _matches,
    _read,
    takes_adapters=True,
)
