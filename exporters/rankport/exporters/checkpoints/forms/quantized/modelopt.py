"""Checkpoints of NVIDIA's ModelOpt in FP8 and NVFP4, with inputs rounded by a fixed scale, a token's own, or a block's.

FP8: W[o, i] = weight[o, i] * weight_scale, one a tensor or an output channel; x = round(x / input_scale) * input_scale.
NVFP4: W[o, i] = fp4[o, i] * weight_scale[o, i // 16] * weight_scale_2; inputs by a block's scale in input_scale's units
(modelopt/torch/export/quant_utils.py and quantization/qtensor/nvfp4_tensor.py, 0.47). config.json or
hf_quant_config.json beside it say which algorithm it is; other algorithms, and a KV cache in low bits, are refused.
"""

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.checkpoints.forms.quantized.low_bit import (
    FULL_PRECISION,
    LowBitLayer,
    float8_layers,
    load_low_bit,
    loaded,
    refuse_full_precision,
)
from rankport.exporters.checkpoints.forms.quantized.packing import unpack_fp4
from rankport.exporters.checkpoints.forms.quantized.stated import require_known
from rankport.exporters.checkpoints.forms.quantized.stored_parts import (
    bias_of,
    read_one_scale,
    read_scales,
    read_tensor,
    require_full_groups,
)
from rankport.exporters.quantization.activation import FP4_MAX, FP8_MAX, Activation
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.weight import QuantizedWeight
from rankport.protos.errors import CheckpointError

METHOD = "modelopt"
_FIELD = "quantization_config"
_PER_TENSOR, _PER_TOKEN = "FP8", "FP8_PER_CHANNEL_PER_TOKEN"
_FP4, _FP4_WEIGHTS = "NVFP4", "W4A16_NVFP4"
_ALGORITHMS = (_PER_TENSOR, _PER_TOKEN, _FP4, _FP4_WEIGHTS)
_BLOCK = 16
"""Channels of fp4 that share a scale."""
_KNOWN = (
    *("quant_method", "quant_algo", "kv_cache_quant_algo", "kv_cache_scheme", "exclude_modules", "ignore"),
    # Say again, group by group, what the algorithm's name says.
    *("config_groups", "producer", "targets", "has_zero_point", "pre_quant_scale", "group_size"),
)


@dataclass(frozen=True, slots=True)
class ModelOptConfig:
    """`quantization_config` of a ModelOpt checkpoint."""

    algorithm: str  # of _ALGORITHMS
    excluded: tuple[str, ...]  # names of modules that stay in full precision, with wildcards

    @classmethod
    def of(cls, raw: dict[str, Any]) -> "ModelOptConfig":
        """Raises CheckpointError naming the field and its value, and what to do."""
        algorithm = raw.get("quant_algo")
        _require(algorithm in _ALGORITHMS, "quant_algo", algorithm, " or ".join(_ALGORITHMS))
        for key in ("kv_cache_quant_algo", "kv_cache_scheme", "pre_quant_scale", "has_zero_point"):
            _require(not raw.get(key), key, raw.get(key), "null")
        if algorithm in (_FP4, _FP4_WEIGHTS):
            _require(
                raw.get("group_size") in (None, _BLOCK), "group_size", raw.get("group_size"), str(_BLOCK)
            )
        require_known(raw, _KNOWN)
        excluded = raw.get("exclude_modules") or raw.get("ignore") or []
        if not isinstance(excluded, list) or not all(isinstance(name, str) for name in excluded):
            raise CheckpointError(f"config.json: {_FIELD}: {excluded!r} must be a list of module names")
        return cls(str(algorithm), tuple(excluded))

    @property
    def is_fp4(self) -> bool:
        """Says whether weights are in fp4."""
        return self.algorithm in (_FP4, _FP4_WEIGHTS)

    def excludes(self, name: str) -> bool:
        """Tells whether a module stays in full precision; a name stands for what lies in it, too."""
        return any(fnmatch(name, pattern) or fnmatch(name, f"{pattern}.*") for pattern in self.excluded)


def matches(folder: CheckpointFolder) -> bool:
    """Goes by `quantization_config.quant_method`, which hf_quant_config.json may state."""
    return folder.quantization_method == METHOD


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the tensor or field at fault."""
    config = ModelOptConfig.of(folder.raw[_FIELD])
    said = f"the quantization says {config.algorithm}"
    stated_in = "hf_quant_config.json and quantization_config"
    layers = _fp4_layers(folder, said, stated_in) if config.is_fp4 else float8_layers(folder, said, stated_in)
    read = _read_fp4 if config.is_fp4 else _read_layer
    model, replaced, notes = load_low_bit(
        folder,
        head,
        layers,
        lambda stored, linear: read(folder, stored, linear, config),
        lambda stored: _fp4_shape(folder, stored) if config.is_fp4 else None,
    )
    _require_all_layers(model, config, replaced)
    return loaded(model, METHOD, config.algorithm, notes)


def _require_all_layers(model: nn.Module, config: ModelOptConfig, replaced: set[str]) -> None:
    """Refuses a layer that the algorithm covers and that is stored in full precision."""
    prefix, head = getattr(model, "base_model_prefix", ""), model.get_output_embeddings()  # type: ignore[operator]
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or name in replaced or module is head:
            continue
        if not any(config.excludes(spelled) for spelled in (name, f"{prefix}.{name}")):
            raise CheckpointError(
                f"quant_algo {config.algorithm} covers layer {name!r}, which is stored in full precision: add it to "
                "exclude_modules, or copy the checkpoint again"
            )


def _read_layer(
    folder: CheckpointFolder, stored: str, linear: nn.Linear, config: ModelOptConfig
) -> LowBitLayer:
    name = f"{stored}.weight"
    codes = read_tensor(folder, name, (linear.out_features, linear.in_features), (torch.float8_e4m3fn,))
    scales = _scales(folder, f"{name}_scale", linear.out_features)
    activation, of_inputs = _activation(folder, f"{stored}.input_scale", config)
    bias, of_bias = bias_of(folder, stored, linear)
    weight = QuantizedWeight(codes, scales, None, 8)
    return LowBitLayer(
        QuantizedLinear(weight, bias, activation), (name, f"{name}_scale", *of_inputs, *of_bias)
    )


def _fp4_layers(folder: CheckpointFolder, said: str, stated_in: str) -> list[str]:
    suffix = ".weight_scale_2"
    names = [name.removesuffix(suffix) for name in folder.tensors.names if name.endswith(suffix)]
    if not names:
        refuse_full_precision(folder, said, f"tensor named '...{suffix}'", stated_in)
    return names


def _fp4_shape(folder: CheckpointFolder, stored: str) -> tuple[int, int] | None:
    name = f"{stored}.weight"
    shape = folder.tensors.shape(name) if name in folder.tensors else ()
    return (shape[0], 2 * shape[1]) if len(shape) == 2 else None


def _read_fp4(
    folder: CheckpointFolder, stored: str, linear: nn.Linear, config: ModelOptConfig
) -> LowBitLayer:
    name = f"{stored}.weight"
    groups = require_full_groups(stored, linear, _BLOCK)
    packed = read_tensor(folder, name, (linear.out_features, linear.in_features // 2), (torch.uint8,))
    scales = read_tensor(folder, f"{name}_scale", (linear.out_features, groups), (torch.float8_e4m3fn,))
    unit = read_one_scale(folder, f"{name}_scale_2")
    weight = QuantizedWeight(unpack_fp4(packed), scales.to(torch.float32) * (unit / 2), None, 8, is_fp4=True)
    inputs = f"{stored}.input_scale"
    activation = None
    if config.algorithm == _FP4:
        activation = Activation("fp4-block", FP4_MAX, scale=read_one_scale(folder, inputs), block=_BLOCK)
    bias, of_bias = bias_of(folder, stored, linear)
    taken = (name, f"{name}_scale", f"{name}_scale_2", *of_bias, *(() if activation is None else (inputs,)))
    return LowBitLayer(QuantizedLinear(weight, bias, activation), taken)


def _scales(folder: CheckpointFolder, name: str, rows: int) -> Tensor:
    """Reads scales fp32: [1, 1] a tensor, or [rows, 1]."""
    scales = read_scales(folder, name)
    if scales.numel() not in (1, rows):
        raise CheckpointError(
            f"tensor {name!r} has shape {list(scales.shape)}, expected is one scale or one for each of {rows} rows: "
            f"{FULL_PRECISION}"
        )
    return scales.reshape(-1, 1)


def _activation(
    folder: CheckpointFolder, name: str, config: ModelOptConfig
) -> tuple[Activation | None, tuple[str, ...]]:
    """Says how inputs are rounded: by the stored scale, by each token's own; not at all where none is stored."""
    if config.algorithm == _PER_TOKEN:
        return Activation("fp8-token", FP8_MAX), ()
    if not any(other.endswith(".input_scale") for other in folder.tensors):
        return None, ()
    return Activation("fp8-tensor", FP8_MAX, scale=read_one_scale(folder, name)), (name,)


def _require(holds: bool, key: str, value: object, expected: str) -> None:
    if not holds:
        raise CheckpointError(f"{_FIELD}.{key} is {value!r}, supported is {expected}: {FULL_PRECISION}")
