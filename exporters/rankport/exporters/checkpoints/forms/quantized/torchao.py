"""Checkpoints of torchao, as transformers saves them: parts of weights by name, and their meaning in a file's header.

The weight of a layer is stored as `_weight_qdata`, `_weight_scale` and perhaps `_weight_zero_point`. Layouts and
formulas are those of torchao 0.18 (quantization/quantize_/workflows), which is not needed to load. Codes with float
zero points (Int4Tensor: W = q * scale + zero_point) lie on no grid of the graphs' products, and are read as what they
stand for.
"""

from functools import partial

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.checkpoints.forms.made_tensors import MadeTensor, with_made
from rankport.exporters.checkpoints.forms.quantized.low_bit import (
    FULL_PRECISION,
    LowBitLayer,
    load_low_bit,
    loaded,
    refuse_full_precision,
)
from rankport.exporters.checkpoints.forms.quantized.stands_for import load_in_full
from rankport.exporters.checkpoints.forms.quantized.stored_parts import (
    bias_of,
    read_block_scales,
    read_one_scale,
    read_scales,
    read_tensor,
)
from rankport.exporters.checkpoints.forms.quantized.torchao_header import METHOD, TorchAoWeight, read_header
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.weight import QuantizedWeight
from rankport.protos.errors import CheckpointError

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def matches(folder: CheckpointFolder) -> bool:
    """Goes by `quantization_config.quant_method`."""
    return folder.quantization_method == METHOD


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the tensor or field at fault."""
    weights = read_header(folder.raw["quantization_config"], folder.tensors.metadata)
    if not weights:
        refuse_full_precision(
            folder, f"config.json says quant_method {METHOD!r}", "weight that its header calls quantized"
        )
    meant = {
        f"{layer}.weight": _meant(folder, weight) for layer, weight in weights.items() if weight.is_offset
    }
    note = f"{len(meant)} weight matrices are stored in torchao's Int4Tensor, whose zero points are floats"
    if len(meant) == len(weights):
        return load_in_full(folder, head, meant, note)
    kept = {layer: weight for layer, weight in weights.items() if not weight.is_offset}
    model, _, notes = load_low_bit(
        with_made(folder, meant),
        head,
        kept,
        lambda stored, linear: _read_layer(folder, kept[stored], linear),
        lambda stored: _shape(folder, kept[stored]),
    )
    notes += (f"{note}, and read as the full precision that they stand for",) if meant else ()
    return loaded(model, METHOD, "+".join(sorted({weight.kind for weight in kept.values()})), notes)


def _shape(folder: CheckpointFolder, weight: TorchAoWeight) -> tuple[int, int] | None:
    name = weight.part("qdata")
    shape = folder.tensors.shape(name) if name in folder.tensors else ()
    return (shape[0], shape[1]) if len(shape) == 2 else None


def _read_layer(folder: CheckpointFolder, weight: TorchAoWeight, linear: nn.Linear) -> LowBitLayer:
    shape = (linear.out_features, linear.in_features)
    codes = read_tensor(folder, weight.part("qdata"), shape, (weight.code_type,))
    if weight.bits == 4 and bool(((codes < -8) | (codes > 7)).any()):
        raise CheckpointError(
            f"tensor {weight.part('qdata')!r} holds codes outside -8..7, and its header says 4 bits"
        )
    scales = _scales(folder, weight, shape)
    zeros = _zeros(folder, weight, scales)
    bias, of_bias = bias_of(folder, weight.layer, linear)
    quantized = QuantizedWeight(codes, scales, zeros, weight.bits)
    return LowBitLayer(QuantizedLinear(quantized, bias, weight.activation), (*weight.parts, *of_bias))


def _scales(folder: CheckpointFolder, weight: TorchAoWeight, shape: tuple[int, int]) -> Tensor:
    """Reads scales fp32: [1, 1] a matrix, or [out, groups]."""
    name = weight.part("scale")
    if weight.block == shape:
        return torch.tensor([[read_one_scale(folder, name)]])
    if any(size % part for size, part in zip(shape, weight.block, strict=True)):
        raise CheckpointError(
            f"layer {weight.layer!r} is {list(shape)}, which blocks of {list(weight.block)} do not divide: "
            f"{FULL_PRECISION}"
        )
    return read_block_scales(folder, name, shape, weight.block)


def _zeros(folder: CheckpointFolder, weight: TorchAoWeight, scales: Tensor) -> Tensor | None:
    """Reads zero points int8, one for each scale; None where all are 0."""
    name = weight.part("zero_point")
    if name not in weight.parts:
        return None
    zeros = read_tensor(folder, name, folder.tensors.shape(weight.part("scale")), (torch.int8, *_FLOATS))
    if not bool(zeros.any()):
        return None
    low, high = (-8, 7) if weight.bits == 4 else (-128, 127)
    whole = zeros.to(torch.int8)
    if not weight.has_zeros or len(zeros) != len(scales) or bool((zeros < low).any() | (zeros > high).any()):
        raise CheckpointError(
            f"tensor {name!r} holds zero points {zeros.min():g} to {zeros.max():g}, and {weight.kind} of blocks of "
            f"{list(weight.block)} has {f'{low} to {high}' if weight.has_zeros else 'none'}: {FULL_PRECISION}"
        )
    if not torch.equal(whole.to(zeros.dtype), zeros):
        raise CheckpointError(
            f"tensor {name!r} holds zero points that are no whole numbers, which no low-bit product has: "
            f"{FULL_PRECISION}"
        )
    return whole


def _meant(folder: CheckpointFolder, weight: TorchAoWeight) -> MadeTensor:
    return MadeTensor(weight.whole_shape, weight.parts, partial(_offset, folder, weight))


def _offset(folder: CheckpointFolder, weight: TorchAoWeight) -> Tensor:
    """Computes q * scale + zero_point, q in -8..7, two a byte, the first in the low bits; scales [groups, out]."""
    rows, columns = weight.whole_shape
    packed = read_tensor(folder, weight.part("qdata"), (rows, columns // 2), (torch.int8, torch.uint8))
    octets = packed.contiguous().view(torch.uint8)
    codes = torch.stack((octets & 0xF, octets >> 4), dim=-1).flatten(-2).to(torch.float32)
    signed = torch.where(codes > 7, codes - 16, codes)
    groups = (columns // weight.block[1], rows)
    scales = read_scales(folder, weight.part("scale"), groups)
    zeros = read_tensor(folder, weight.part("zero_point"), groups, _FLOATS).to(torch.float32)
    grouped = signed.reshape(rows, groups[0], -1)
    whole: Tensor = grouped * scales.T[..., None] + zeros.T[..., None]
    return whole.flatten(1)
