"""The facts of `config.expansion`, checked against the names of the stored tensors.

Owns which layers run twice. The names are the final truth: where the config contradicts them it is refused, for a model
loaded by either alone would run without some of its weights.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rankport.exporters.checkpoints.expansion.merges import MERGES
from rankport.protos.errors import CheckpointError

EXPAND_TYPES = ("stack", "concat", "hybrid")
_PART = re.compile(r"(?:^|\.)layers\.(\d+)\.(pretrained_layer|expanded_layer)\.")
_FIELD = "config.json: expansion"


@dataclass(frozen=True, slots=True)
class Expansion:
    """The fields of `config.expansion` that decide the forward pass."""

    expand_type: str  # of EXPAND_TYPES
    merge_method: str  # a key of MERGES; means nothing for stack
    frozen_layers: tuple[int, ...] | None  # ascending
    has_factor: bool  # lerp without one answers with the expanded layer alone
    norm_alpha: float  # of the expanded layers' norms, see RelaxedNorm
    merged_back: bool  # its pairs were merged into single layers after training

    @classmethod
    def of(cls, raw: dict[str, Any]) -> "Expansion":
        """Reads config.json. Raises CheckpointError naming the field at fault."""
        stated = raw.get("expansion")
        if not isinstance(stated, dict):
            raise CheckpointError(f"{_FIELD} is {stated!r}, must be an object as Control LLM writes it")
        expand_type = _choice(stated, "expand_type", EXPAND_TYPES)
        stacked = expand_type == "stack"
        return cls(
            expand_type=expand_type,
            merge_method="lerp" if stacked else _choice(stated, "merge_method", tuple(MERGES)),
            frozen_layers=_frozen(stated),
            has_factor=stated.get("interpolation_factor") is not None,
            norm_alpha=_number(stated, "interpolation_norm_alpha"),
            merged_back=_number(stated, "num_exp_layers") < 0,
        )

    def paired_layers(self, layers: int, names: Iterable[str]) -> tuple[int, ...]:
        """Finds which of the model's `layers` are pairs, ascending; `names` are the stored tensors.

        Of the layers that are not frozen, concat makes every one a pair; hybrid stacks the first, pairs the second,
        and so on in turn; stack pairs none.

        Raises CheckpointError: freezed_layers is missing or out of range, half a pair is stored, or config and
        tensors contradict each other.
        """
        said = self._said(layers)
        stored = _stored_pairs(names)
        if said != stored:
            raise CheckpointError(
                f"{_FIELD} ({self.expand_type}, freezed_layers {list(self.frozen_layers or ())}) makes pairs of layers "
                f"{list(said)}, the stored tensors of layers {list(stored)}: "
                "correct expand_type or freezed_layers, or copy the checkpoint again"
            )
        return stored

    def _said(self, layers: int) -> tuple[int, ...]:
        if self.expand_type == "stack" or self.merged_back:
            return ()
        if self.frozen_layers is None:
            raise CheckpointError(
                f"{_FIELD}.freezed_layers is missing: it says which layers are expanded; list those that are not"
            )
        outside = [layer for layer in self.frozen_layers if not 0 <= layer < layers]
        if outside:
            raise CheckpointError(
                f"{_FIELD}.freezed_layers names layer {outside[0]}, the model has layers 0 to {layers - 1} "
                "(num_hidden_layers)"
            )
        trained = [layer for layer in range(layers) if layer not in self.frozen_layers]
        return tuple(trained if self.expand_type == "concat" else trained[1::2])


def _stored_pairs(names: Iterable[str]) -> tuple[int, ...]:
    parts: dict[int, set[str]] = {}
    for name in names:
        match = _PART.search(name)
        if match is not None:
            parts.setdefault(int(match[1]), set()).add(match[2])
    for layer, present in sorted(parts.items()):
        if len(present) < 2:
            there = next(iter(present))
            lacking = "expanded_layer" if there == "pretrained_layer" else "pretrained_layer"
            raise CheckpointError(
                f"the checkpoint holds layers.{layer}.{there}.* and lacks layers.{layer}.{lacking}.*: "
                "an expanded layer needs both, copy the checkpoint again"
            )
    return tuple(sorted(parts))


def _choice(stated: dict[str, Any], field: str, known: tuple[str, ...]) -> str:
    value = stated.get(field)
    if value not in known:
        raise CheckpointError(f"{_FIELD}.{field} is {value!r}, must be one of {', '.join(known)}")
    return str(value)


def _frozen(stated: dict[str, Any]) -> tuple[int, ...] | None:
    value = stated.get("freezed_layers")
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(layer) is int for layer in value):
        raise CheckpointError(f"{_FIELD}.freezed_layers is {value!r}, must be a list of layer numbers")
    return tuple(sorted(set(value)))


def _number(stated: dict[str, Any], field: str) -> float:
    """Reads a number as its writer does: 0 if absent or null."""
    value = stated.get(field)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CheckpointError(f"{_FIELD}.{field} is {value!r}, must be a number")
    return float(value)
