"""BAAI's bge-reranker-v2-minicpm-layerwise: a MiniCPM with a head behind layers from some on, read at one of them."""

from collections.abc import Collection
from typing import Final

from rankport.exporters.checkpoints.published.classes.minicpm_config import CLASS, MODEL_TYPE
from rankport.exporters.checkpoints.published.layerwise import ONE_LABEL, last_layer, names_up_to
from rankport.exporters.checkpoints.published.layout import (
    SIZES,
    Fields,
    FieldTable,
    PublishedLayout,
    PublishedModel,
    number_of,
    renamed_class,
)

CODE: Final = "BAAI/bge-reranker-v2-minicpm-layerwise"
_PUBLISHED = "LayerWiseMiniCPMForCausalLM"
_WIDTHS = ("num_attention_heads", "hidden_size")
_THETA = 10_000.0  # the code's default
_FIELDS = FieldTable(
    needed=(*SIZES, "scale_emb", "scale_depth", "start_layer"),
    renamed={"scale_emb": "embedding_multiplier"},
    values={"head_multi": (True,), "head_type": ("simple",), "rope_scaling": (None,)},
    unread=(
        *("dim_model_base", "tie_word_embeddings", "pretraining_tp"),  # of a head that makes tokens
        *("scale_depth", "start_layer", "cutoff_layer", "rope_theta"),  # read below
        "pad_token_id",  # a text is read at its last token, whichever that is
        *("num_labels", "id2label", "label2id"),
    ),
    foreign=(
        *("residual_multiplier", "attention_multiplier", "logits_scaling", "embedding_multiplier"),
        *("rope_parameters", "head_dim"),
    ),
)


def _matches(raw: Fields, tensors: Collection[str]) -> bool:
    return raw.get("model_type") == "minicpm" and raw.get("architectures") == [_PUBLISHED]


def _read(raw: Fields) -> PublishedModel:
    fields = _FIELDS.translate(raw, CODE)
    layers, heads, width = (int(number_of(raw, name)) for name in ("num_hidden_layers", *_WIDTHS))
    first = int(number_of(raw, "start_layer"))
    last = last_layer(raw, range(first, layers + 1), f"from {first} (start_layer) to {layers}")
    theta = number_of({"rope_theta": _THETA, **raw}, "rope_theta")
    fields |= {
        "model_type": MODEL_TYPE,
        "architectures": renamed_class(raw, {_PUBLISHED: CLASS}, CODE),
        "num_hidden_layers": last,
        "residual_multiplier": number_of(raw, "scale_depth") / layers**0.5,
        "attention_multiplier": (width / heads) ** -0.5,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        **ONE_LABEL,
    }
    note = (
        f"read at layer {last} of {layers}, by the head of that layer: cutoff_layer of config.json names another from "
        f"{first} on; the layers above and the other heads are left out"
    )
    names = names_up_to(last, layers, last - first, layers - first + 1)
    return PublishedModel(fields, names, (note,), classes=frozenset((CLASS,)))


LAYOUT: Final = PublishedLayout(
    CODE,
    frozenset(("LayerWiseMiniCPMConfig", "LayerWiseMiniCPMModel", _PUBLISHED)),
    _matches,
    _read,
)
