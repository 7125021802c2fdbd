"""`quantization_config` of compressed-tensors checkpoints: which layer is stored how.

Owns what of the format is supported: int2 to int8, fp4 and float8 weights (a scale a tensor, channel, group or block),
inputs in full precision, int8, float8 or NVFP4. Field names and the order of matching are those of the
compressed-tensors library, 0.20.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from torch import nn

from rankport.exporters.checkpoints.forms.quantized.low_bit import FULL_PRECISION
from rankport.exporters.checkpoints.forms.quantized.packing import widened
from rankport.exporters.checkpoints.forms.quantized.stated import refuse_slips, require_known, stated_bool
from rankport.exporters.quantization.activation import Kind
from rankport.protos.errors import CheckpointError

Format = Literal[
    "pack-quantized",
    "int-quantized",
    "float-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    "mxfp4-pack-quantized",
    "mxfp8-quantized",
]
Strategy = Literal["tensor", "channel", "group", "block", "tensor_group"]
MIXED = "mixed-precision"
_FIELD = "quantization_config"
_SCHEME_KEYS = ("targets", "weights", "input_activations", "output_activations", "format")
_ARGUMENT_KEYS = (
    *("num_bits", "type", "symmetric", "group_size", "strategy", "block_structure", "dynamic", "actorder"),
    *("scale_dtype", "zp_dtype", "observer", "observer_kwargs"),
)
_FP8, _POWERS = "torch.float8_e4m3fn", "torch.uint8"
INT_BITS = range(2, 9)
_WIDE = (None, "torch.float32", "torch.float16", "torch.bfloat16")
# Formats of small blocks whose scales are narrow themselves: bits, strategy, group_size, scale_dtype of weights.
SMALL_BLOCKS: dict[str, tuple[int, Strategy, int, str]] = {
    "nvfp4-pack-quantized": (4, "tensor_group", 16, _FP8),
    "mxfp4-pack-quantized": (4, "group", 32, _POWERS),
    "mxfp8-quantized": (8, "group", 32, _POWERS),
}
# What would change what the model answers, and is not done here.
_UNSUPPORTED = {
    "kv_cache_scheme": "a quantized KV cache is not supported",
    "transform_config": "transforms such as spinquant and quip are not supported",
    "sparsity_config": "sparse formats are not supported",
}
_INPUTS: dict[tuple[str, int, str, bool | str], Kind] = {
    # type, num_bits, strategy, dynamic
    ("int", 8, "token", True): "int8-token",
    ("int", 8, "tensor", False): "int8-tensor",
    ("float", 8, "token", True): "fp8-token",
    ("float", 8, "group", True): "fp8-block",
    ("float", 8, "tensor", False): "fp8-tensor",
    ("float", 4, "tensor_group", "local"): "fp4-block",
}


@dataclass(frozen=True, slots=True)
class WeightScheme:
    """Rounding of the weights of a layer."""

    type: Literal["int", "float"]
    bits: int  # as stored
    symmetric: bool
    strategy: Strategy
    group_size: int | None  # of the group strategies
    block: tuple[int, int] | None = None  # rows and columns, of strategy block


@dataclass(frozen=True, slots=True)
class InputScheme:
    """Rounding of the inputs of a layer."""

    kind: Kind
    block: int | None  # channels that share a scale, of the block kinds


@dataclass(frozen=True, slots=True)
class LayerScheme:
    """One of `config_groups`."""

    field: str  # its path in config.json
    targets: tuple[str, ...]
    format: Format
    weights: WeightScheme
    inputs: InputScheme | None


@dataclass(frozen=True, slots=True)
class CompressedTensorsConfig:
    """The whole of `quantization_config`."""

    format: str
    schemes: tuple[LayerScheme, ...]
    ignore: tuple[str, ...]

    @classmethod
    def of(cls, raw: dict[str, Any]) -> "CompressedTensorsConfig":
        """Raises CheckpointError naming the field and its value, and what to do."""
        for key, reason in _UNSUPPORTED.items():
            stated = raw.get(key)
            if stated and not (isinstance(stated, dict) and stated.get("format") == "dense"):
                raise CheckpointError(
                    f"config.json: {_FIELD}.{key} is {stated!r}: {reason}: {FULL_PRECISION}"
                )
        refuse_slips(raw, ("config_groups", "format", "ignore", *_UNSUPPORTED), ("moe_sparsity_config",))
        groups = raw.get("config_groups")
        if not isinstance(groups, dict) or not groups:
            raise CheckpointError(
                f"config.json: {_FIELD}.config_groups is {groups!r}, must be an object of schemes"
            )
        file_format = str(raw.get("format"))
        if raw.get("format") not in (None, MIXED, "dense", *get_args(Format)):
            raise CheckpointError(_unknown_format(f"{_FIELD}.format", file_format))
        schemes = tuple(
            _scheme(f"{_FIELD}.config_groups.{name}", group, file_format) for name, group in groups.items()
        )
        return cls(file_format, schemes, _patterns(f"{_FIELD}.ignore", raw.get("ignore") or []))

    @property
    def notes(self) -> tuple[str, ...]:
        """Says of which codes the bundle has wider ones."""
        return widened(scheme.weights.bits for scheme in self.schemes)

    def scheme_of(self, name: str, layer: nn.Module) -> LayerScheme | None:
        """Finds the scheme of a layer: exact names win over regular expressions, those over class names."""
        if _matched(name, layer, self.ignore) is not None:
            return None
        by_target = {target: scheme for scheme in self.schemes for target in scheme.targets}
        target = _matched(
            name, layer, tuple(sorted(by_target, key=lambda target: (target.startswith("re:"), target)))
        )
        return None if target is None else by_target[target]


def _matched(name: str, layer: nn.Module, targets: tuple[str, ...]) -> str | None:
    for target in targets:
        pattern = target.removeprefix("re:")
        if re.match(pattern, name) is not None if target.startswith("re:") else target == name:
            return target
    classes = {kind.__name__ for kind in type(layer).__mro__}
    return next((target for target in targets if target in classes), None)


def _patterns(field: str, stated: Any) -> tuple[str, ...]:
    if not isinstance(stated, list) or not all(isinstance(pattern, str) for pattern in stated):
        raise CheckpointError(f"config.json: {field} is {stated!r}, must be a list of names")
    for pattern in stated:
        try:
            re.compile(pattern.removeprefix("re:") if pattern.startswith("re:") else "")
        except re.error as error:
            raise CheckpointError(
                f"config.json: {field} holds {pattern!r}, no regular expression: {error}"
            ) from error
    return tuple(stated)


def _scheme(field: str, stated: Any, file_format: str) -> LayerScheme:
    _require_keys(field, stated, _SCHEME_KEYS)
    _require(stated.get("output_activations") is None, f"{field}.output_activations", stated, "null")
    form = stated.get("format") or file_format
    if form not in get_args(Format):
        where = f"{field}.format" if stated.get("format") else f"{_FIELD}.format"
        raise CheckpointError(_unknown_format(where, form))
    inputs = stated.get("input_activations")
    return LayerScheme(
        field=field,
        targets=_patterns(f"{field}.targets", stated.get("targets")),
        format=cast(Format, form),
        weights=_weights(f"{field}.weights", stated.get("weights"), form),
        inputs=None if inputs is None else _inputs(f"{field}.input_activations", inputs),
    )


def _unknown_format(where: str, form: object) -> str:
    return f"config.json: {where} is {form!r}, supported are {', '.join(get_args(Format))}: {FULL_PRECISION}"


def _weights(field: str, stated: Any, form: str) -> WeightScheme:
    _require_keys(field, stated, _ARGUMENT_KEYS)
    if form in SMALL_BLOCKS:
        return _small_blocks(field, stated, form)
    _require_wide_scales(field, stated)
    kind, bits = stated.get("type", "int"), stated.get("num_bits", 8)
    _require(kind in ("int", "float"), f"{field}.type", stated, "'int' or 'float'")
    _require(
        bits in (INT_BITS if kind == "int" else (8,)),
        f"{field}.num_bits",
        stated,
        "2 to 8 of int, 8 of float",
    )
    _require(not stated_bool(stated, "dynamic", False, field), f"{field}.dynamic", stated, "false")
    strategy = _strategy(stated)
    _require(
        strategy in get_args(Strategy), f"{field}.strategy", stated, "'tensor', 'channel', 'group' or 'block'"
    )
    symmetric = stated_bool(stated, "symmetric", True, field)
    _require(symmetric or kind == "int", f"{field}.symmetric", stated, "true of float weights")
    size = stated.get("group_size") if strategy == "group" else None
    if strategy in ("tensor", "channel"):
        _require(
            stated.get("group_size") in (None, -1), f"{field}.group_size", stated, f"null of {strategy!r}"
        )
    if strategy == "group":
        _require(isinstance(size, int) and size > 0, f"{field}.group_size", stated, "a whole number above 0")
    block = None
    if strategy == "block":
        _require(kind == "float", f"{field}.strategy", stated, "'block' of float weights alone")
        block = _whole_block(f"{field}.block_structure", stated)
    return WeightScheme(kind, bits, symmetric, strategy, size, block)


def _small_blocks(field: str, stated: dict[str, Any], form: str) -> WeightScheme:
    bits, strategy, size, scales = SMALL_BLOCKS[form]
    expected: dict[str, Any] = {"type": "float", "num_bits": bits, "strategy": strategy, "group_size": size}
    for key, value in (expected | {"scale_dtype": scales, "dynamic": False, "symmetric": True}).items():
        _require(stated.get(key) == value, f"{field}.{key}", stated, f"{value!r} of {form}")
    return WeightScheme("float", bits, True, strategy, size)


def _require_wide_scales(field: str, stated: dict[str, Any]) -> None:
    _require(stated.get("scale_dtype") in _WIDE, f"{field}.scale_dtype", stated, "null or a wide float")


def _whole_block(field: str, stated: dict[str, Any]) -> tuple[int, int]:
    sizes = stated.get("block_structure")
    sound = (
        isinstance(sizes, list)
        and len(sizes) == 2
        and all(type(size) is int and size >= 16 for size in sizes)
    )
    _require(sound, field, stated, "two whole numbers of 16 or more")
    return sizes[0], sizes[1]  # type: ignore[index]


def _inputs(field: str, stated: Any) -> InputScheme:
    _require_keys(field, stated, _ARGUMENT_KEYS)
    _require(stated_bool(stated, "symmetric", True, field), f"{field}.symmetric", stated, "true")
    dynamic = stated.get("dynamic", False)
    strategy = _strategy(stated)
    asked = (stated.get("type", "int"), stated.get("num_bits", 8), strategy, dynamic)
    kind = _INPUTS.get(asked) if isinstance(dynamic, bool | str) else None
    if kind is None:
        known = "; ".join(
            f"{type}{bits}, {grain}, {moving if isinstance(moving, str) else 'dynamic' if moving else 'static'}"
            for type, bits, grain, moving in _INPUTS
        )
        shown = {key: stated.get(key) for key in ("type", "num_bits", "strategy", "dynamic")}
        raise CheckpointError(f"config.json: {field} is {shown}, supported are {known}: {FULL_PRECISION}")
    size = stated.get("group_size")
    if kind == "fp4-block":
        for key, value in (("group_size", 16), ("scale_dtype", _FP8)):
            _require(stated.get(key) == value, f"{field}.{key}", stated, f"{value!r} of fp4")
        return InputScheme(kind, size)
    _require_wide_scales(field, stated)
    if kind != "fp8-block":
        return InputScheme(kind, None)
    _require(type(size) is int and size >= 16, f"{field}.group_size", stated, "a whole number of 16 or more")
    return InputScheme(kind, size)


def _strategy(stated: dict[str, Any]) -> Any:
    """Reads the strategy as stated, or infers it as the library does from the group size."""
    if stated.get("strategy") is not None:
        return stated["strategy"]
    size = stated.get("group_size")
    return "tensor" if size is None else "channel" if size == -1 else "group"


def _require_keys(field: str, stated: Any, known: tuple[str, ...]) -> None:
    if not isinstance(stated, dict):
        raise CheckpointError(f"config.json: {field} is {stated!r}, must be an object")
    require_known(stated, known, field)


def _require(holds: bool, field: str, stated: dict[str, Any], expected: str) -> None:
    if not holds:
        value = stated.get(field.rpartition(".")[2])
        raise CheckpointError(f"config.json: {field} is {value!r}, supported is {expected}: {FULL_PRECISION}")
