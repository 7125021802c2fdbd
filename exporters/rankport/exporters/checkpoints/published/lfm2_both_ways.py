"""Liquid's LFM2.5 encoders (LFM2.5-Embedding-350M, LFM2.5-Encoder): LFM2 made to see both ways by code of its own."""

from collections.abc import Collection
from typing import Final

from rankport.exporters.checkpoints.published.classes.lfm2_both_ways_config import CLASS, MODEL_TYPE
from rankport.exporters.checkpoints.published.layout import (
    Fields,
    FieldTable,
    PublishedLayout,
    PublishedModel,
    renamed_class,
    tensor_names,
)

CODE: Final = "LiquidAI/LFM2.5-Embedding-350M"
_TYPES = ("lfm2", "lfm2_bidirectional")  # with code of its own, and as later releases of transformers have it
_CLASSES = {"Lfm2BidirectionalModel": CLASS, "Lfm2BidirectionalForMaskedLM": CLASS}
_FIELDS = FieldTable(
    needed=(),
    # with biases padding would not stay zero, and the code's answers would depend on it
    values={"conv_bias": (False, None)},
    foreign=("is_causal",),
)


def _matches(raw: Fields, tensors: Collection[str]) -> bool:
    names = raw.get("architectures") or ["?"]
    return raw.get("model_type") in _TYPES and str(names[0]).startswith("Lfm2Bidirectional")


def _read(raw: Fields) -> PublishedModel:
    fields = _FIELDS.translate(raw, CODE) | {"model_type": MODEL_TYPE, "is_causal": False}
    fields |= {"architectures": renamed_class(raw, _CLASSES, CODE)}
    note = f"{CLASS} is rankport's own: transformers' LFM2, its attention and convolutions seeing both ways"
    return PublishedModel(fields, tensor_names("lfm2.", {}), (note,), classes=frozenset((CLASS,)))


LAYOUT: Final = PublishedLayout(CODE, frozenset(("Lfm2BidirectionalConfig", *_CLASSES)), _matches, _read)
