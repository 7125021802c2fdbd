"""BAAI's bge-reranker-v2-minicpm-layerwise: a MiniCPM with a head behind each layer from some on, read at one of them.

`cutoff_layer` of config.json names the layer, which the published code takes with each call; its default is the last.
"""

from collections.abc import Collection
from typing import Any, Final

from rankport.exporters.checkpoints.published.layout import (
    SIZES,
    Fields,
    FieldTable,
    PublishedLayout,
    PublishedModel,
    TensorNames,
    number_of,
    renamed_class,
    tensor_names,
)
from rankport.exporters.checkpoints.published.minicpm_config import CLASS, MODEL_TYPE
from rankport.protos.errors import CheckpointError

CODE: Final = "BAAI/bge-reranker-v2-minicpm-layerwise"
_PUBLISHED = "LayerWiseMiniCPMForCausalLM"
_THETA = 10_000.0  # the code's default
_FIELDS = FieldTable(
    needed=(*SIZES, "scale_emb", "scale_depth", "start_layer"),
    renamed={"scale_emb": "embedding_multiplier"},
    values={"head_multi": (True,), "head_type": ("simple",), "rope_scaling": (None,)},
    unread=(
        *("dim_model_base", "tie_word_embeddings", "pretraining_tp"),  # of a head that makes tokens
        *(
            "scale_depth",
            "start_layer",
            "cutoff_layer",
            "rope_theta",
            "pad_token_id",
        ),  # read below, or not at all
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
    first, last = int(number_of(raw, "start_layer")), _last_layer(raw, layers)
    theta = number_of({"rope_theta": _THETA, **raw}, "rope_theta")
    fields |= {
        "model_type": MODEL_TYPE,
        "architectures": renamed_class(raw, {_PUBLISHED: CLASS}, CODE),
        "num_hidden_layers": last,
        "residual_multiplier": number_of(raw, "scale_depth") / layers**0.5,
        "attention_multiplier": (width / heads) ** -0.5,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    note = (
        f"read at layer {last} of {layers}, by the head of that layer: cutoff_layer of config.json names another from "
        f"{first} on; the layers above and the other heads are left out"
    )
    return PublishedModel(fields, _names(first, last, layers), (note,), classes=frozenset((CLASS,)))


_WIDTHS = ("num_attention_heads", "hidden_size")


def _last_layer(raw: Fields, layers: int) -> int:
    """Reads the layer whose state is scored. Raises CheckpointError for one without a head."""
    first: Any = raw["start_layer"]
    stated: Any = raw.get("cutoff_layer", layers)
    if isinstance(stated, bool) or not isinstance(stated, int) or not first <= stated <= layers:
        raise CheckpointError(
            f"config.json: cutoff_layer is {stated!r:.60}, must be a layer with a head, from {first} (start_layer) to "
            f"{layers}"
        )
    return stated


def _names(first: int, last: int, layers: int) -> TensorNames:
    """Puts the head of the layer that is read in its place, and leaves out others, and the layers above."""
    above = "|".join(map(str, range(last, layers))) or "none"
    rows: dict[str, str | tuple[str, ...]] = {
        rf"lm_head\.{last - first}\.linear_head\.weight": "score.weight",
        rf"lm_head\.(?:{'|'.join(map(str, range(layers - first + 1)))})\.linear_head\.weight": (),
        rf"(?:model\.)?layers\.(?:{above})\..*": (),
    }
    return tensor_names("", rows)


LAYOUT: Final = PublishedLayout(
    CODE,
    frozenset(("LayerWiseMiniCPMConfig", "LayerWiseMiniCPMModel", _PUBLISHED)),
    _matches,
    _read,
)
