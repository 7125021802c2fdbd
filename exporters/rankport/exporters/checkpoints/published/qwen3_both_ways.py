"""Qwen3 made to read both ways by code of its own: voyage-4-nano, which projects its states, and pplx-embed-v1."""

from collections.abc import Collection
from typing import Any, Final

from rankport.exporters.checkpoints.published.classes.qwen3_both_ways_config import CLASS, MODEL_TYPE
from rankport.exporters.checkpoints.published.layout import (
    Fields,
    FieldTable,
    PublishedLayout,
    PublishedModel,
    renamed_class,
    tensor_names,
)
from rankport.protos.errors import CheckpointError

_VOYAGE: Final = "voyageai/voyage-4-nano"
_PPLX: Final = "perplexity-ai/pplx-embed-v1"
_PPLX_TYPE: Final = "bidirectional_pplx_qwen3"
_PROJECTION = "linear.weight"
_FIELDS = FieldTable(
    needed=("use_bidirectional_attention",),
    values={"use_bidirectional_attention": (True,)},
    unread=("num_labels", "id2label", "label2id"),  # the width of a projection, read below
    foreign=("is_causal",),
)
_SAME_NAMES = tensor_names("", {})


def _is_voyage(raw: Fields, tensors: Collection[str]) -> bool:
    return raw.get("model_type") == "qwen3" and _PROJECTION in tensors


def _read_voyage(raw: Fields) -> PublishedModel:
    fields = _FIELDS.translate(raw, _VOYAGE) | {"model_type": MODEL_TYPE, "is_causal": False}
    fields |= {"architectures": renamed_class(raw, {"Qwen3BidirectionalModel": CLASS}, _VOYAGE)}
    note = (
        f"{CLASS} is rankport's own: transformers' Qwen3 that reads both ways, and a projection of its states"
    )
    return PublishedModel(
        fields | {"projection": _width(raw)}, _SAME_NAMES, (note,), classes=frozenset((CLASS,))
    )


def _width(raw: Fields) -> int:
    """Reads the width of the projection, for which the code takes the count of labels."""
    names = raw.get("id2label")
    width: Any = raw.get("num_labels", len(names) if isinstance(names, dict) else None)
    if isinstance(width, bool) or not isinstance(width, int):
        raise CheckpointError(
            f"config.json: num_labels is {width!r:.60}, must be the width of {_PROJECTION}, the rows that it has"
        )
    return width


def _is_pplx(raw: Fields, tensors: Collection[str]) -> bool:
    return raw.get("model_type") == _PPLX_TYPE


def _read_pplx(raw: Fields) -> PublishedModel:
    fields = _FIELDS.translate(raw, _PPLX) | {"model_type": "qwen3", "is_causal": False}
    fields |= {"architectures": renamed_class(raw, {"PPLXQwen3Model": "Qwen3Model"}, _PPLX)}
    return PublishedModel(fields, _SAME_NAMES, classes=frozenset(("Qwen3Model",)))


LAYOUTS: Final = (
    PublishedLayout(_VOYAGE, frozenset({"Qwen3BidirectionalModel"}), _is_voyage, _read_voyage),
    PublishedLayout(_PPLX, frozenset({"PPLXQwen3Config", "PPLXQwen3Model"}), _is_pplx, _read_pplx),
)
