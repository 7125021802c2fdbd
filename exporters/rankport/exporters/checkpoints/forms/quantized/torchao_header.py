"""Word of a torchao checkpoint on its weights: the header of its files, and `quantization_config`.

The header (metadata of safetensors) has the class of each weight, its blocks and how inputs are rounded, as JSON
(torchao/prototype/safetensors, 0.18); torchao loads by it alone. What says otherwise in config.json is refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from rankport.exporters.checkpoints.forms.quantized.low_bit import FULL_PRECISION
from rankport.exporters.checkpoints.forms.quantized.stated import require_known
from rankport.exporters.quantization.activation import FP8_MAX, Activation
from rankport.protos.errors import CheckpointError

METHOD = "torchao"
_FIELD = "quantization_config"
_KNOWN_FIELDS = (
    *("quant_method", "quant_type", "modules_to_not_convert"),
    *("include_input_output_embeddings", "untie_embedding_weights"),
)
_NAMES, _PLAIN = "tensor_names", "Tensor"
_INT8, _INTX, _FLOAT8, _INT4 = "Int8Tensor", "IntxUnpackedToInt8Tensor", "Float8Tensor", "Int4Tensor"
_ATTRIBUTES = {
    _INT8: ("block_size", "dtype", "act_quant_kwargs", "reduce_range"),
    _INTX: ("block_size", "dtype", "target_dtype", "activation_quantization"),
    _FLOAT8: ("block_size", "dtype", "act_quant_kwargs", "mm_config", "kernel_preference"),
    _INT4: ("block_size", "shape", "activation_dtype"),
}
_PARTS = dict.fromkeys((_INT8, _INTX, _INT4), ("qdata", "scale", "zero_point")) | {
    _FLOAT8: ("qdata", "scale")
}
_MADE_BY = {
    "Int8WeightOnlyConfig": _INT8,
    "Int8DynamicActivationInt8WeightConfig": _INT8,
    "IntxWeightOnlyConfig": _INTX,
    "Float8WeightOnlyConfig": _FLOAT8,
    "Float8DynamicActivationFloat8WeightConfig": _FLOAT8,
    "Int4WeightOnlyConfig": _INT4,
}
"""Class of the weights that a config makes, of those that make one."""
_INT8_DIVISOR = 127.5
"""Half of the range -128..127 (quant_primitives.py: choose_qparams_affine of a symmetric mapping).

A loudest value lies between two codes then; if negative it takes either, as the last bit of its quotient has it.
"""
_BY_TOKEN = {"_type": "PerRow", "_data": {"dim": -1}}
_INPUTS: dict[str, dict[str, Any]] = {
    "QuantizeTensorToInt8Kwargs": {
        "granularity": _BY_TOKEN,
        "mapping_type": {"_type": "MappingType", "_data": "SYMMETRIC"},
        "reduce_range": False,
    },
    "QuantizeTensorToFloat8Kwargs": {
        "granularity": _BY_TOKEN,
        "float8_dtype": {"_type": "torch.dtype", "_data": "float8_e4m3fn"},
        "hp_value_lb": None,
        "hp_value_ub": None,
    },
}
_KERNELS = ("mm_config", "kernel_preference")  # which product computes, not what


@dataclass(frozen=True, slots=True)
class TorchAoWeight:
    """A weight in low bits, by the word of the header."""

    layer: str
    kind: str  # class of torchao
    block: tuple[int, int]  # rows and columns of a scale
    parts: tuple[str, ...]  # stored tensors
    bits: int  # 4 or 8, that hold its codes
    activation: Activation | None
    whole_shape: tuple[int, int] = (0, 0)  # of a packed one

    @property
    def is_offset(self) -> bool:
        """Tells codes whose zero points are floats."""
        return self.kind == _INT4

    @property
    def has_zeros(self) -> bool:
        """Tells whether zero points other than 0 take part: Int8Tensor's product leaves them out."""
        return self.kind == _INTX

    @property
    def code_type(self) -> torch.dtype:
        """Type of a code."""
        return torch.float8_e4m3fn if self.kind == _FLOAT8 else torch.int8

    def part(self, name: str) -> str:
        """Gives the stored name of a part."""
        return f"{self.layer}._weight_{name}"


def read_header(stated: Mapping[str, Any], metadata: Mapping[str, str]) -> dict[str, TorchAoWeight]:
    """Reads the weights in low bits, by layer. Raises CheckpointError naming what is not supported."""
    require_known([name for name, value in stated.items() if value], _KNOWN_FIELDS)
    config = _config(stated)
    names = _object(metadata, _NAMES, list)
    weights = {}
    for name in names:
        said = _object(metadata, str(name), dict)
        if said.get("_type") != _PLAIN:
            weight = _weight(str(name), said)
            _require_made_by(config, str(name), weight)
            weights[weight.layer] = weight
    return weights


def _config(stated: Mapping[str, Any]) -> str:
    """Reads the class of the config that made the checkpoint."""
    kinds = stated.get("quant_type")
    if isinstance(kinds, str):
        raise CheckpointError(
            f"config.json: {_FIELD}.quant_type is {kinds!r}, as versions of transformers wrote that saved pickles: "
            f"save it again with transformers 5; or {FULL_PRECISION}"
        )
    default = kinds.get("default") if isinstance(kinds, dict) and len(kinds) == 1 else None
    if not isinstance(default, dict) or not isinstance(default.get("_type"), str):
        raise CheckpointError(
            f"config.json: {_FIELD}.quant_type is {kinds!r:.80}, must be an object with the one key 'default', a "
            "config of torchao"
        )
    return str(default["_type"])


def _object(metadata: Mapping[str, str], name: str, kind: type) -> Any:
    """Reads an entry of the header. Raises CheckpointError where it is missing or of another type."""
    try:
        entry = json.loads(metadata[name])
    except (KeyError, ValueError):
        entry = None
    if not isinstance(entry, kind):
        raise CheckpointError(
            f"the header of the safetensors has {metadata.get(name)!r:.60} for {name!r}, by which torchao knows its "
            "weights: save the checkpoint again with transformers, and copy it as it is"
        )
    return entry


def _weight(name: str, said: dict[str, Any]) -> TorchAoWeight:
    layer, _, leaf = name.rpartition(".")
    kind, data, parts = said.get("_type"), said.get("_data"), said.get("_tensor_data_names")
    if kind not in _ATTRIBUTES or leaf != "weight":
        known = ", ".join(_ATTRIBUTES)
        raise CheckpointError(
            f"tensor {name!r} is stored as torchao's {kind!r}: supported are weights of layers in {known}; "
            f"{FULL_PRECISION}"
        )
    if not isinstance(data, dict) or not isinstance(parts, list):
        raise CheckpointError(
            f"the header of the safetensors says {said!r:.80} of {name!r}: copy the file again"
        )
    for key, value in data.items():
        _require(key in _ATTRIBUTES[kind], name, key, value, "nothing of that name")
    for part in parts:
        _require(part in _PARTS[kind], name, "_tensor_data_names", part, ", ".join(_PARTS[kind]))
    block = _sizes(name, data, "block_size")
    return TorchAoWeight(
        layer,
        kind,
        block,
        tuple(f"{layer}._weight_{part}" for part in parts),
        _bits(name, kind, data),
        _activation(name, kind, data),
        _packed_shape(name, data, block) if kind == _INT4 else (0, 0),
    )


def _sizes(name: str, data: dict[str, Any], key: str) -> tuple[int, int]:
    sizes = data.get(key)
    sound = (
        isinstance(sizes, list) and len(sizes) == 2 and all(type(size) is int and size > 0 for size in sizes)
    )
    _require(sound, name, key, sizes, "two whole numbers above 0")
    return sizes[0], sizes[1]  # type: ignore[index]


def _packed_shape(name: str, data: dict[str, Any], block: tuple[int, int]) -> tuple[int, int]:
    rows, columns = _sizes(name, data, "shape")
    sound = block[0] == 1 and columns % block[1] == 0 and columns % 2 == 0
    _require(sound, name, "block_size", list(block), f"[1, size of groups of {columns} columns]")
    return rows, columns


def _bits(name: str, kind: str, data: dict[str, Any]) -> int:
    if kind != _INTX:
        return 4 if kind == _INT4 else 8
    target = data.get("target_dtype")
    widths = {f"int{bits}": bits for bits in range(1, 9)}
    stated = target.get("_data") if isinstance(target, dict) else None
    _require(stated in widths, name, "target_dtype", target, "int1 to int8")
    return 4 if widths[str(stated)] <= 4 else 8


def _activation(name: str, kind: str, data: dict[str, Any]) -> Activation | None:
    """Says how inputs are rounded: not at all, or by the scale of each token, around zero."""
    if kind == _INTX:
        rounding = data.get("activation_quantization")
        _require(rounding is None, name, "activation_quantization", rounding, "null")
    if kind == _INT4:
        states = data.get("activation_dtype")
        whole = {"_type": "torch.dtype", "_data": "bfloat16"}
        _require(states in (None, whole), name, "activation_dtype", states, "bfloat16")
    stated = data.get("act_quant_kwargs")
    if stated is None:
        return None
    expected = _INPUTS.get(str(stated.get("_type"))) if isinstance(stated, dict) else None
    _require(expected is not None, name, "act_quant_kwargs", stated, " or ".join(_INPUTS))
    rule = stated.get("_data") or {}
    for key, value in rule.items():
        if key not in _KERNELS:
            wanted: Any = (expected or {}).get(key, ...)
            _require(value == wanted, name, f"act_quant_kwargs.{key}", value, _words(wanted))
    _require("granularity" in rule, name, "act_quant_kwargs.granularity", None, _words(_BY_TOKEN))
    return Activation("int8-token", _INT8_DIVISOR) if kind == _INT8 else Activation("fp8-token", FP8_MAX)


def _words(wanted: Any) -> str:
    return "nothing of that name" if wanted is ... else json.dumps(wanted)


def _require_made_by(config: str, name: str, weight: TorchAoWeight) -> None:
    """Raises CheckpointError where config.json names a config that makes no such weights."""
    made = _MADE_BY.get(config)
    rounded = "WeightOnly" in config and weight.activation is not None
    if (made is not None and made != weight.kind) or rounded:
        inputs = "" if weight.activation is None else f" with inputs rounded ({weight.activation.name})"
        raise CheckpointError(
            f"config.json: {_FIELD}.quant_type is {config}, and the header of the safetensors says {weight.kind}"
            f"{inputs} of {name!r}: put the config beside its own weights"
        )


def _require(holds: bool, name: str, key: str, value: object, expected: str) -> None:
    if not holds:
        raise CheckpointError(
            f"tensor {name!r}: the header says {key} {value!r:.120}, supported is {expected}: {FULL_PRECISION}"
        )
