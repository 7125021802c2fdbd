"""AWQ checkpoints, as AutoAWQ and GPT-QModel write them in its layout `gemm`.

W[o, i] = scales[g, o] * (q[i, o] - z[g, o]) with g = i // group_size (awq/utils/packing_utils.py, 0.2.9), where q and z
are unsigned, 4 bits, eight output channels in an int32 word: qweight [in, out / 8], qzeros [groups, out / 8]. What AWQ
scales weights by lies in the norms and layers before them already.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.checkpoints.forms.quantized.low_bit import (
    FULL_PRECISION,
    LowBitLayer,
    load_low_bit,
    loaded,
    packed_layers,
)
from rankport.exporters.checkpoints.forms.quantized.packing import unpack_words
from rankport.exporters.checkpoints.forms.quantized.stated import refuse_slips, stated_bool
from rankport.exporters.checkpoints.forms.quantized.stored_parts import (
    bias_of,
    read_scales,
    read_tensor,
    require_full_groups,
)
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.weight import QuantizedWeight
from rankport.protos.errors import CheckpointError

METHOD = "awq"
_FIELD = "quantization_config"
_BITS, _CODES = 4, 8
_LAYOUT = "gemm"
_LAYOUT_NAMES = ("version", "format", "checkpoint_format")  # AutoAWQ's, transformers' and GPT-QModel's
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Places of the output channels of a word, in their order, among its codes, the lowest bits first."""
_READ = frozenset({"bits", "group_size", "zero_point", "pack_dtype", *_LAYOUT_NAMES})


@dataclass(frozen=True, slots=True)
class AwqConfig:
    """`quantization_config` of an AWQ checkpoint, or AutoAWQ's own `quant_config.json`."""

    group_size: int  # -1: a scale an output channel
    zero_point: bool

    @classmethod
    def of(cls, raw: dict[str, Any]) -> "AwqConfig":
        """Raises CheckpointError naming the field and its value, and what to do."""
        refuse_slips(raw, _READ, ("w_bit", "q_group_size"))
        bits, size = raw.get("bits", _BITS), raw.get("group_size", 128)
        _require(bits == _BITS, "bits", bits, "4")
        _require(isinstance(size, int) and (size == -1 or size > 0), "group_size", size, "-1 or above 0")
        for key in _LAYOUT_NAMES:
            layout = raw.get(key) or _LAYOUT
            _require(str(layout).lower() == _LAYOUT, key, layout, repr(_LAYOUT))
        _require(raw.get("pack_dtype", "int32") == "int32", "pack_dtype", raw.get("pack_dtype"), "'int32'")
        _require(raw.get("backend") != "llm-awq", "backend", raw.get("backend"), "'autoawq'")
        for key in ("activation", "rotation", "adapter", "w_bit", "q_group_size"):
            _require(not raw.get(key), key, raw.get(key), "null")
        return cls(size, stated_bool(raw, "zero_point", True))


def matches(folder: CheckpointFolder) -> bool:
    """Goes by `quantization_config.quant_method`, which quant_config.json may state."""
    return folder.quantization_method == METHOD


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the tensor or field at fault."""
    config = AwqConfig.of(folder.raw[_FIELD])
    layers = packed_layers(folder, f"the quantization says quant_method {METHOD!r}")
    model, _, notes = load_low_bit(
        folder,
        head,
        layers,
        lambda stored, linear: _read_layer(folder, stored, linear, config),
        lambda stored: _packed_shape(folder, stored),
    )
    return loaded(model, METHOD, _LAYOUT, notes)


def _packed_shape(folder: CheckpointFolder, stored: str) -> tuple[int, int] | None:
    """Gives [out, in] of packed codes [in, out / 8]."""
    packed = folder.tensors.shape(f"{stored}.qweight")
    return (packed[1] * _CODES, packed[0]) if len(packed) == 2 else None


def _read_layer(folder: CheckpointFolder, stored: str, linear: nn.Linear, config: AwqConfig) -> LowBitLayer:
    names = tuple(f"{stored}.{part}" for part in ("qweight", "qzeros", "scales"))
    channels = linear.out_features
    if channels % _CODES:
        raise CheckpointError(
            f"layer {stored!r} has {channels} output channels, which AWQ's words of 8 do not hold"
        )
    groups = 1 if config.group_size == -1 else require_full_groups(stored, linear, config.group_size)
    codes = _unpacked(read_tensor(folder, names[0], (linear.in_features, channels // _CODES), (torch.int32,)))
    zeros = _unpacked(read_tensor(folder, names[1], (groups, channels // _CODES), (torch.int32,)))
    scales = read_scales(folder, names[2], (groups, channels), signed=True).T.contiguous()
    bias, of_bias = bias_of(folder, stored, linear)
    weight = QuantizedWeight(codes, scales, _checked(names[1], zeros, config), _BITS).upright()
    return LowBitLayer(QuantizedLinear(weight, bias, None), (*names, *of_bias))


def _unpacked(words: Tensor) -> Tensor:
    """Unpacks int32 [n, out / 8] -> signed codes int8 [out, n]."""
    codes = unpack_words(words, _BITS).reshape(len(words), -1, _CODES)
    channels: Tensor = codes[..., _PLACES].flatten(1)
    return channels.T.contiguous()


def _checked(name: str, zeros: Tensor, config: AwqConfig) -> Tensor | None:
    """Gives zero points, None where all are the middle of the grid, as they are without any."""
    if not bool(zeros.any()):
        return None
    if not config.zero_point:
        raise CheckpointError(
            f"tensor {name!r} holds zero points, and {_FIELD}.zero_point is false: set it to true if they were "
            "meant, or copy the checkpoint again"
        )
    return zeros


def _require(holds: bool, key: str, value: object, expected: str) -> None:
    if not holds:
        raise CheckpointError(f"{_FIELD}.{key} is {value!r}, supported is {expected}: {FULL_PRECISION}")
