"""Fine-grained FP8 checkpoints, as DeepSeek, Qwen and transformers write them: float8 weights, a scale a block.

W[o, i] = weight[o, i] * weight_scale_inv[o // rows, i // columns] with blocks of `weight_block_size`, or one scale a
matrix (transformers/integrations/finegrained_fp8.py, 5.24; its "inverse" is of what the weight was divided by). Inputs
are rounded to float8 too: by a scale of each token and block of columns, of each token where weights have no blocks, or
by the fixed `activation_scale`.
"""

from dataclasses import dataclass
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
)
from rankport.exporters.checkpoints.forms.quantized.stated import require_known, stated_bool
from rankport.exporters.checkpoints.forms.quantized.stored_parts import (
    bias_of,
    read_block_scales,
    read_scales,
    read_tensor,
)
from rankport.exporters.quantization.activation import FP8_MAX, Activation
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.weight import QuantizedWeight
from rankport.protos.errors import CheckpointError

METHOD = "fp8"
_FIELD = "quantization_config"
_WIDE, _POWERS = "float", "ue8m0"
_SKIPPED = ("modules_to_not_convert", "ignored_layers")
_KNOWN = (
    *(
        "quant_method",
        "activation_scheme",
        "weight_block_size",
        "dequantize",
        "fmt",
        "scale_fmt",
        "expert_dtype",
    ),
    *("modules_to_convert", *_SKIPPED),
)


@dataclass(frozen=True, slots=True)
class FineGrainedConfig:
    """`quantization_config` of a checkpoint in fine-grained FP8."""

    block: tuple[int, int] | None  # rows and columns that share a scale; None: all of a matrix
    scheme: str  # "dynamic" | "static"
    rounds_inputs: bool
    powers: bool  # scales of weights may be stored as powers of two
    skipped: tuple[str, ...]  # names of modules that stay in full precision

    @classmethod
    def of(cls, raw: dict[str, Any]) -> "FineGrainedConfig":
        """Raises CheckpointError naming the field and its value, and what to do."""
        require_known(raw, _KNOWN)
        scheme = raw.get("activation_scheme", "dynamic")
        _require(scheme in ("dynamic", "static"), "activation_scheme", scheme, "'dynamic' or 'static'")
        for key, only in (("fmt", "e4m3"), ("expert_dtype", "fp8")):
            _require(raw.get(key, only) == only, key, raw.get(key), repr(only))
        form, rounds = raw.get("scale_fmt", _WIDE), not stated_bool(raw, "dequantize", False)
        _require(form in (_WIDE, _POWERS), "scale_fmt", form, f"{_WIDE!r} or {_POWERS!r}")
        if form == _POWERS and rounds:
            raise CheckpointError(
                f"config.json: {_FIELD}.scale_fmt is {_POWERS!r}: scales of inputs are powers of two there on some "
                f"machines and not on others: set {_FIELD}.dequantize to true, which leaves inputs as they are, or "
                f"{FULL_PRECISION}"
            )
        _require(
            not raw.get("modules_to_convert"), "modules_to_convert", raw.get("modules_to_convert"), "null"
        )
        skipped: Any = next((raw[key] for key in _SKIPPED if raw.get(key) is not None), [])
        if not isinstance(skipped, list) or not all(isinstance(name, str) for name in skipped):
            raise CheckpointError(f"config.json: {_FIELD}: {skipped!r} must be a list of module names")
        block = _block(raw.get("weight_block_size", (128, 128)))
        return cls(block, scheme, rounds, form == _POWERS, tuple(skipped))

    def activation(self, static: float | None) -> Activation | None:
        """Says how inputs of a layer are rounded, by the fixed scale where the scheme has one."""
        if not self.rounds_inputs:
            return None
        if static is not None:
            return Activation("fp8-tensor", FP8_MAX, scale=static)
        if self.block is None:
            return Activation("fp8-token", FP8_MAX)
        return Activation("fp8-block", FP8_MAX, block=self.block[1])


def matches(folder: CheckpointFolder) -> bool:
    """Goes by `quantization_config.quant_method`."""
    return folder.quantization_method == METHOD


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the tensor or field at fault."""
    config = FineGrainedConfig.of(folder.raw[_FIELD])
    layers = float8_layers(folder, f"config.json says quant_method {METHOD!r}")
    model, _, notes = load_low_bit(
        folder,
        head,
        layers,
        lambda stored, linear: _read_layer(folder, stored, linear, config),
        lambda stored: None,
    )
    return loaded(
        model, METHOD, "tensor" if config.block is None else f"blocks of {_words(config.block)}", notes
    )


def _read_layer(
    folder: CheckpointFolder, stored: str, linear: nn.Linear, config: FineGrainedConfig
) -> LowBitLayer:
    if any(stored == name or stored.startswith(f"{name}.") for name in config.skipped):
        raise CheckpointError(
            f"layer {stored!r} is stored in float8, and config.json: {_FIELD}.modules_to_not_convert says that it "
            "stays in full precision: copy the checkpoint again"
        )
    name, shape = f"{stored}.weight", (linear.out_features, linear.in_features)
    codes = read_tensor(folder, name, shape, (torch.float8_e4m3fn,))
    weight = QuantizedWeight(codes, _scales(folder, f"{name}_scale_inv", shape, config), None, 8)
    static, of_inputs = _static(folder, stored, config)
    bias, of_bias = bias_of(folder, stored, linear)
    return LowBitLayer(
        QuantizedLinear(weight, bias, config.activation(static)),
        (name, f"{name}_scale_inv", *of_inputs, *of_bias),
    )


def _scales(folder: CheckpointFolder, name: str, shape: tuple[int, int], config: FineGrainedConfig) -> Tensor:
    """Reads scales fp32: [1, 1] a matrix, or [out, groups]."""
    if config.block is None:
        scale = read_scales(folder, name, powers=config.powers)
        if scale.numel() != 1:
            raise CheckpointError(
                f"tensor {name!r} has shape {list(scale.shape)}, and config.json: {_FIELD}.weight_block_size is null, "
                "which stores one scale: set the size that the weights were written with"
            )
        return scale.reshape(1, 1)
    return read_block_scales(folder, name, shape, config.block, powers=config.powers)


def _static(
    folder: CheckpointFolder, stored: str, config: FineGrainedConfig
) -> tuple[float | None, tuple[str, ...]]:
    """Reads the fixed scale of inputs, and what is taken."""
    if config.scheme == "dynamic":
        return None, ()
    name = f"{stored}.activation_scale"
    scale = read_scales(folder, name)
    if scale.numel() != 1:
        raise CheckpointError(f"tensor {name!r} must hold one scale, it has shape {list(scale.shape)}")
    return scale.item(), (name,)


def _block(stated: Any) -> tuple[int, int] | None:
    if stated is None:
        return None
    sound = isinstance(stated, list | tuple) and len(stated) == 2
    sound = sound and all(type(size) is int and size >= 16 for size in stated)
    _require(sound, "weight_block_size", stated, "null, or two whole numbers of 16 or more")
    return stated[0], stated[1]


def _words(block: tuple[int, int]) -> str:
    return " x ".join(map(str, block))


def _require(holds: bool, key: str, value: object, expected: str) -> None:
    if not holds:
        raise CheckpointError(
            f"config.json: {_FIELD}.{key} is {value!r}, supported is {expected}: {FULL_PRECISION}"
        )
