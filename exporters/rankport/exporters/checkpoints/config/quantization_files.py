"""Files beside config.json in which some writers say that the weights are quantized.

Owns their names, and turns what they say into the `quantization_config` that config.json should have. Which methods
are supported, the forms know.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.protos.errors import CheckpointError

FIELD = "quantization_config"
_AUTOAWQ = {"w_bit": "bits", "q_group_size": "group_size"}
"""Names of its own file, and config.json's of the same."""
_BITSANDBYTES = ("load_in_8bit", "load_in_4bit", "bnb_4bit_quant_type", "llm_int8_threshold")


def _modelopt(raw: dict[str, Any]) -> dict[str, Any]:
    stated = raw.get("quantization")
    return {"quant_method": "modelopt"} | (stated if isinstance(stated, dict) else raw)


def _autogptq(raw: dict[str, Any]) -> dict[str, Any]:
    return {"quant_method": "gptq"} | raw


def _awq(raw: dict[str, Any]) -> dict[str, Any]:
    stated = {_AUTOAWQ.get(key, key): value for key, value in raw.items()}
    if "version" in stated:
        stated["version"] = str(stated["version"]).lower()
    return {"quant_method": "awq"} | stated


def _as_it_is(raw: dict[str, Any]) -> dict[str, Any]:
    return raw


_FILES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "hf_quant_config.json": _modelopt,
    "quantize_config.json": _autogptq,
    "quant_config.json": _awq,
    "quantization_config.json": _as_it_is,
}
QUANTIZATION_FILES = tuple(_FILES)


def with_quantization(path: Path, raw: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Gives config.json the `quantization_config` that a file beside it states; says so, in words.

    Raises CheckpointError if the file contradicts config.json, or what config.json says is no object.
    """
    stated = raw.get(FIELD)
    if stated is not None and not isinstance(stated, dict):
        raise CheckpointError(f"config.json: {FIELD} is {stated!r}, must be an object")
    notes: list[str] = []
    for name, reading in _FILES.items():
        if not (path / name).is_file():
            continue
        beside = reading(read_json_object(path / name))
        if stated is None:
            stated = beside
            notes.append(f"quantization as {name} has it: config.json says nothing")
        else:
            _require_same(name, beside, stated)
    return (raw if stated is None else raw | {FIELD: stated}), tuple(notes)


def method_of(raw: dict[str, Any]) -> str | None:
    """Reads `quantization_config.quant_method`; None without a quantization. Old bitsandbytes left the method out."""
    stated = raw.get(FIELD)
    if stated is None:
        return None
    method = stated.get("quant_method")
    if method is None and any(key in stated for key in _BITSANDBYTES):
        return "bitsandbytes"
    return str("?" if method is None else method)


def _require_same(name: str, beside: dict[str, Any], stated: dict[str, Any]) -> None:
    for key in (
        "quant_method",
        "quant_algo",
        "bits",
        "group_size",
        "sym",
        "desc_act",
        "zero_point",
        "version",
    ):
        if key in beside and key in stated and beside[key] != stated[key]:
            raise CheckpointError(
                f"{name} says {key} {beside[key]!r}, config.json: {FIELD}.{key} is {stated[key]!r}: remove the one "
                "that the weights were not written with"
            )
