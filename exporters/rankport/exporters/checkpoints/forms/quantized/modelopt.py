"""Checkpoints of NVIDIA's ModelOpt in FP8: float8 weights, and inputs rounded by a fixed scale or a token's own.

W[o, i] = weight[o, i] * weight_scale, one a tensor or an output channel; x = round(x / input_scale) * input_scale
(modelopt/torch/export/quant_utils.py, 0.42). config.json or hf_quant_config.json beside it say which algorithm it is;
other algorithms, and a KV cache in low bits, are refused by name.
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
    bias_of,
    float8_layers,
    load_low_bit,
    loaded,
    read_scales,
    read_tensor,
)
from rankport.exporters.quantization.activation import FP8_MAX, Activation
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.weight import QuantizedWeight
from rankport.protos.errors import CheckpointError

METHOD = "modelopt"
_FIELD = "quantization_config"
_PER_TENSOR, _PER_TOKEN = "FP8", "FP8_PER_CHANNEL_PER_TOKEN"
_KNOWN = (
    *("quant_method", "quant_algo", "kv_cache_quant_algo", "kv_cache_scheme", "exclude_modules", "ignore"),
    # Say again, group by group, what the algorithm's name says.
    *("config_groups", "producer", "targets", "has_zero_point", "pre_quant_scale", "group_size"),
)


@dataclass(frozen=True, slots=True)
class ModelOptConfig:
    """`quantization_config` of a ModelOpt checkpoint."""

    algorithm: str  # _PER_TENSOR or _PER_TOKEN
    excluded: tuple[str, ...]  # names of modules that stay in full precision, with wildcards

    @classmethod
    def of(cls, raw: dict[str, Any]) -> "ModelOptConfig":
        """Raises CheckpointError naming the field and its value, and what to do."""
        algorithm = raw.get("quant_algo")
        _require(
            algorithm in (_PER_TENSOR, _PER_TOKEN), "quant_algo", algorithm, f"{_PER_TENSOR} or {_PER_TOKEN}"
        )
        for key in ("kv_cache_quant_algo", "kv_cache_scheme", "pre_quant_scale", "has_zero_point"):
            _require(not raw.get(key), key, raw.get(key), "null")
        unknown = next((key for key in raw if key not in _KNOWN), None)
        if unknown is not None:
            raise CheckpointError(f"config.json: {_FIELD}.{unknown} is unknown: {FULL_PRECISION}")
        excluded = raw.get("exclude_modules") or raw.get("ignore") or []
        if not isinstance(excluded, list) or not all(isinstance(name, str) for name in excluded):
            raise CheckpointError(f"config.json: {_FIELD}: {excluded!r} must be a list of module names")
        return cls(str(algorithm), tuple(excluded))

    def excludes(self, name: str) -> bool:
        """Tells whether a module stays in full precision; a name stands for what lies in it, too."""
        return any(fnmatch(name, pattern) or fnmatch(name, f"{pattern}.*") for pattern in self.excluded)


def matches(folder: CheckpointFolder) -> bool:
    """Goes by `quantization_config.quant_method`, which hf_quant_config.json may state."""
    return folder.quantization_method == METHOD


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the tensor or field at fault."""
    config = ModelOptConfig.of(folder.raw[_FIELD])
    layers = float8_layers(
        folder, f"the quantization says {config.algorithm}", "hf_quant_config.json and quantization_config"
    )
    model, replaced, notes = load_low_bit(
        folder,
        head,
        layers,
        lambda stored, linear: _read_layer(folder, stored, linear, config),
        lambda stored: None,
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
    scale = read_scales(folder, name)
    if scale.numel() != 1:
        raise CheckpointError(f"tensor {name!r} must hold one scale, it has shape {list(scale.shape)}")
    return Activation("fp8-tensor", FP8_MAX, scale=scale.item()), (name,)


def _require(holds: bool, key: str, value: object, expected: str) -> None:
    if not holds:
        raise CheckpointError(f"{_FIELD}.{key} is {value!r}, supported is {expected}: {FULL_PRECISION}")
