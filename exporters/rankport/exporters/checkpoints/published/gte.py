"""Alibaba's GTE v1.5 and mGTE (`model_type` new, code of Alibaba-NLP/new-impl): transformers' Gte."""

from collections.abc import Collection
from typing import Any, Final

from rankport.exporters.checkpoints.published.layout import (
    SIZES,
    Fields,
    FieldTable,
    PublishedLayout,
    PublishedModel,
    number_of,
    renamed_class,
    tensor_names,
)
from rankport.protos.errors import CheckpointError

CODE: Final = "Alibaba-NLP/new-impl"
_HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification")
_OTHERS = ("Config", "ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering")
_FIELDS = FieldTable(
    needed=(
        *SIZES,
        *("rope_theta", "layer_norm_eps", "hidden_act", "type_vocab_size", "max_position_embeddings"),
    ),
    values={
        "position_embedding_type": ("rope",),
        "layer_norm_type": ("layer_norm",),
        "logn_attention_scale": (False, None),
    },
    unread=(
        "pack_qkv",  # the tensors show it
        *("unpad_inputs", "use_memory_efficient_attention"),  # how passes are laid out
        "logn_attention_clip1",  # which logn_attention_scale alone would read
        *("rope_theta", "rope_scaling"),  # read below
    ),
    foreign=("rope_parameters", "head_dim", "partial_rotary_factor"),
)
_TENSORS = tensor_names(
    "new.",
    {
        r"encoder\.layer\.(\d+)\.attention\.qkv_proj\.(weight|bias)": (
            "layers.{0}.self_attn.q_proj.{1}",
            "layers.{0}.self_attn.k_proj.{1}",
            "layers.{0}.self_attn.v_proj.{1}",
        ),
        r"encoder\.layer\.(\d+)\.attention\.([qkvo]_proj\.(?:weight|bias))": "layers.{0}.self_attn.{1}",
        r"encoder\.layer\.(\d+)\.mlp\.up_gate_proj\.weight": (
            "layers.{0}.mlp.up_proj.weight",
            "layers.{0}.mlp.gate_proj.weight",
        ),
        r"encoder\.layer\.(\d+)\.mlp\.down_proj\.(weight|bias)": "layers.{0}.mlp.down_proj.{1}",
        r"encoder\.layer\.(\d+)\.attn_ln\.(weight|bias)": "layers.{0}.post_attention_layernorm.{1}",
        r"encoder\.layer\.(\d+)\.mlp_ln\.(weight|bias)": "layers.{0}.post_mlp_layernorm.{1}",
    },
)
_SCALING = ("type", "rope_type", "factor", "mixed_b")


def _matches(raw: Fields, tensors: Collection[str]) -> bool:
    return raw.get("model_type") == "new"


def _read(raw: Fields) -> PublishedModel:
    fields = _FIELDS.translate(raw, CODE)
    rope, notes = _rope(raw)
    classes = {f"New{head}": f"Gte{head}" for head in _HEADS}
    fields |= {
        "model_type": "gte",
        "rope_parameters": rope,
        "architectures": renamed_class(raw, classes, CODE),
    }
    return PublishedModel(fields, _TENSORS, notes, classes=frozenset(classes.values()))


def _rope(raw: Fields) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Says rotary frequencies as transformers does, and a note of what was scaled. Raises CheckpointError.

    The code's fixed NTK scaling multiplies the base by the factor, and divides every frequency by its root of the
    number of frequencies, which is what transformers calls linear.
    """
    theta, scaling = number_of(raw, "rope_theta"), raw.get("rope_scaling")
    if scaling is None:
        return {"rope_type": "default", "rope_theta": theta}, ()
    _check_scaling(scaling)
    factor, width = (
        float(scaling["factor"]),
        int(number_of(raw, "hidden_size") / number_of(raw, "num_attention_heads")),
    )
    if factor == 1:
        return {"rope_type": "default", "rope_theta": theta}, ()
    divisor = factor ** (2 / width)
    note = f"rope_scaling ntk of factor {factor:g}: frequencies of base {theta * factor:g}, divided by {divisor:.6g}"
    return {"rope_type": "linear", "rope_theta": theta * factor, "factor": divisor}, (note,)


def _check_scaling(scaling: object) -> None:
    where = f"config.json: rope_scaling is {scaling!r:.80}"
    if not isinstance(scaling, dict):
        raise CheckpointError(f"{where}: must be an object with type and factor, or null")
    unknown = next((name for name in scaling if name not in _SCALING), None)
    if unknown is not None:
        raise CheckpointError(f"{where}: {CODE} does not read {unknown!r}: remove it")
    kinds = {scaling[name] for name in ("type", "rope_type") if name in scaling}
    if kinds != {"ntk"}:
        raise CheckpointError(f"{where}: {CODE} knows the type 'ntk' alone")
    if scaling.get("mixed_b") is not None:
        raise CheckpointError(f"{where}: frequencies of mixed_b are none that transformers' Gte computes")
    factor = scaling.get("factor")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or factor < 1:
        raise CheckpointError(f"{where}: factor must be a number from 1 on")


LAYOUT: Final = PublishedLayout(
    CODE, frozenset(f"New{name}" for name in (*_HEADS, *_OTHERS)), _matches, _read, takes_adapters=True
)
