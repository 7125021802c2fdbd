"""AutoRound checkpoints of whole numbers: words as GPTQ's or AWQ's, under a config of their own.

`packing_format` tells the layout: `auto_round:auto_gptq` is GPTQ's with zero points less one, `auto_round` and
`auto_round:gptqmodel` have them as they are, `auto_round:auto_awq` is AWQ's `gemm` (auto_round/inference/backend.py and
auto_round_extension/torch, 0.16). Layers of `extra_config` have bits, groups and zero points of their own. Owns the
reading of the config; the layouts are `gptq`'s and `awq`'s.
"""

import dataclasses
import re
from collections.abc import Set
from typing import Any

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.checkpoints.forms.quantized import awq, gptq
from rankport.exporters.checkpoints.forms.quantized.gptq_config import GptqConfig, Rule
from rankport.exporters.checkpoints.forms.quantized.low_bit import FULL_PRECISION, packed_layers
from rankport.exporters.checkpoints.forms.quantized.stated import refuse_slips, stated_bool
from rankport.protos.errors import CheckpointError

METHOD = "auto-round"
_FIELD = "quantization_config"
_METHODS = (METHOD, "intel/auto-round")  # the latter of 2024, which said `backend`
_LESS_ONE = "auto_round:auto_gptq"
_GPTQ = {
    _LESS_ONE: "gptq",
    "auto_round:gptq": "gptq",
    "auto_round": "gptq_v2",
    "auto_round:gptqmodel": "gptq_v2",
}
"""Layout -> GPTQ's name of how its zero points are stored."""
_AWQ = ("auto_round:auto_awq", "auto_round:awq")
_FULL_BITS = 16
_SCHEME = ("bits", "group_size", "sym", "data_type")
# What would change what the model answers, and is not done here.
_ABSENT = ("rotation_config", "static_kv_dtype", "static_attention_dtype", "super_bits", "super_group_size")
_READ = (*_SCHEME, *_ABSENT, "packing_format", "act_bits", "extra_config")


def matches(folder: CheckpointFolder) -> bool:
    """Goes by `quantization_config.quant_method`."""
    return folder.quantization_method in _METHODS


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the tensor or field at fault."""
    raw = folder.raw[_FIELD]
    layers = packed_layers(folder, f"config.json says quant_method {METHOD!r}")
    refuse_slips(raw, _READ)
    _require_served(raw, "")
    sym = stated_bool(raw, "sym", True)
    layout = _layout(raw, sym)
    own = {key: raw[key] for key in ("bits", "group_size") if key in raw}
    if layout in _AWQ:
        _require_one_scheme(raw)
        stated = own | {"quant_method": awq.METHOD, "zero_point": not sym}
        loaded = awq.load(dataclasses.replace(folder, raw=folder.raw | {_FIELD: stated}), head)
        assert loaded.quantization is not None
        return dataclasses.replace(
            loaded, quantization=dataclasses.replace(loaded.quantization, method=METHOD)
        )
    known = ", ".join((*_GPTQ, *_AWQ))
    _require(isinstance(layout, str) and layout in _GPTQ, "packing_format", layout, known)
    config = GptqConfig.of(own | {"sym": sym, "checkpoint_format": _GPTQ[str(layout)]})
    return gptq.load_as(folder, head, dataclasses.replace(config, rules=_rules(raw, set(layers))), METHOD)


def _require_served(stated: dict[str, Any], where: str) -> None:
    """Requires whole numbers for weights alone. Raises CheckpointError naming the field and its value."""
    for key in _ABSENT:
        _require(not stated.get(key), f"{where}{key}", stated.get(key), "null")
    kind = stated.get("data_type") or "int"
    _require(kind == "int", f"{where}data_type", kind, "'int'")
    inputs = stated.get("act_bits")
    _require(inputs is None or _is_full(inputs), f"{where}act_bits", inputs, "16 or more")


def _layout(raw: dict[str, Any], sym: bool) -> object:
    """Reads how codes are packed; of what older versions say symmetric ones, whose zero points tell it themselves."""
    older = raw.get("backend")
    if (
        raw.get("packing_format") is None
        and sym
        and isinstance(older, str)
        and older.startswith("auto_round")
    ):
        return _LESS_ONE
    return raw.get("packing_format")


def _others(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Reads `extra_config`: fields by the name of a layer, or a regular expression of names."""
    others = raw.get("extra_config") or {}
    _require(isinstance(others, dict), "extra_config", others, "an object")
    for name, stated in others.items():
        _require(isinstance(stated, dict), f"extra_config.{name}", stated, "an object")
        refuse_slips(stated, _READ)
    return others


def _rules(raw: dict[str, Any], layers: Set[str]) -> tuple[Rule, ...]:
    """Says how layers of `extra_config` are stored: those named count before those that match anywhere in a name.

    auto_round/inference/utils.py, 0.16: the first expression that matches counts.
    """
    named, matching = [], []
    for name, stated in _others(raw).items():
        field = f"extra_config.{name}"
        full = _is_full(stated.get("bits"))
        own = {key: stated[key] for key in ("bits", "group_size", "sym") if stated.get(key) is not None}
        if not full:
            _require_served(stated, f"{field}.")
        if name in layers:
            named.append(Rule(field, re.compile(f"{re.escape(name)}$"), None if full else own))
        elif stated:
            matching.append(Rule(field, _anywhere(field, name), None if full else own))
    return (*named, *matching)


def _anywhere(field: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(f".*?(?:{pattern})")
    except re.error as error:
        raise CheckpointError(f"config.json: {_FIELD}.{field} is no regular expression: {error}") from error


def _require_one_scheme(raw: dict[str, Any]) -> None:
    """Requires layers of `extra_config` to be as all others, or in full precision, as the tensors tell."""
    for name, stated in _others(raw).items():
        if _is_full(stated.get("bits")):
            continue
        for key in _SCHEME:
            same = stated.get(key, raw.get(key)) == raw.get(key)
            _require(
                same, f"extra_config.{name}.{key}", stated.get(key), f"{raw.get(key)!r}, as of all layers"
            )


def _is_full(bits: object) -> bool:
    return isinstance(bits, int) and bits >= _FULL_BITS


def _require(holds: bool, key: str, value: object, expected: str) -> None:
    if not holds:
        raise CheckpointError(
            f"config.json: {_FIELD}.{key} is {value!r:.80}, supported is {expected}: {FULL_PRECISION}"
        )
