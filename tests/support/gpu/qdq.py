"""Low-bit layers of every scheme, and their graphs for a GPU."""

import onnx_ir as ir
import torch
from torch import nn

from rankport.exporters.checkpoints.forms.quantized.packing import unpack_fp4
from rankport.exporters.graphs.trace import trace
from rankport.exporters.quantization.activation import FP4_MAX, FP8_MAX, Activation
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.recipes import RECIPES
from rankport.exporters.quantization.rounding import round_to_nearest
from rankport.exporters.quantization.weight import QuantizedWeight
from rankport.runtime.bundle.manifest import Target

IN, OUT = 256, 96
FP8_TOKEN = Activation("fp8-token", divisor=FP8_MAX)


def random_weight(
    bits: int, groups: int, *, zeros: bool = False, groups_of: torch.Tensor | None = None
) -> QuantizedWeight:
    """Codes over the whole grid, a scale a group."""
    generator = torch.Generator().manual_seed(bits * groups)
    edge = 2 ** (bits - 1)
    codes = torch.randint(-edge, edge, (OUT, IN), generator=generator).to(torch.int8)
    scales = torch.rand(OUT, groups, generator=generator) * 0.02 + 0.001
    # Up to and with `edge`, which is off the grid: symmetric GPTQ's old offset.
    offsets = torch.randint(-edge, min(edge, 126) + 1, (OUT, groups), generator=generator).to(torch.int8)
    return QuantizedWeight(codes, scales, offsets if zeros else None, bits, groups_of)


def fp8_weight() -> QuantizedWeight:
    """float8, a scale a channel."""
    weight = torch.randn(OUT, IN, generator=torch.Generator().manual_seed(8)) * 0.1
    return round_to_nearest(weight, RECIPES["fp8"], None)


def fp8_block_weight() -> QuantizedWeight:
    """float8, a scale a block of 128 columns and 48 rows."""
    scales = (torch.rand(2, 2, generator=torch.Generator().manual_seed(9)) * 0.02 + 0.001).repeat_interleave(
        48, 0
    )
    return QuantizedWeight(fp8_weight().codes, scales, None, 8)


def fp8_tensor_weight() -> QuantizedWeight:
    """float8, one scale."""
    return QuantizedWeight(fp8_weight().codes, torch.full((1, 1), 0.01), None, 8)


def fp4_weight() -> QuantizedWeight:
    """fp4, a scale 16 columns."""
    generator = torch.Generator().manual_seed(10)
    codes = unpack_fp4(torch.randint(256, (OUT, IN // 2), generator=generator, dtype=torch.uint8))
    scales = torch.rand(OUT, IN // 16, generator=generator) * 0.02 + 0.001
    return QuantizedWeight(codes, scales, None, 8, is_fp4=True)


_SHUFFLED = torch.arange(4).repeat_interleave(IN // 4)[
    torch.randperm(IN, generator=torch.Generator().manual_seed(1))
]
_UNEQUAL = torch.arange(3).repeat_interleave(torch.tensor([128, 112, 16]))[
    torch.randperm(IN, generator=torch.Generator().manual_seed(2))
]

QDQ_LAYERS: dict[str, tuple[QuantizedWeight, Activation | None]] = {
    "int4 in groups of 128": (random_weight(4, 2), None),
    "int4 in groups of 8": (random_weight(4, 32), None),
    "int4 asymmetric": (random_weight(4, 2, zeros=True), None),
    "int4 per channel": (random_weight(4, 1), None),
    "int4 per channel, asymmetric": (random_weight(4, 1, zeros=True), None),
    "int4 act-order": (random_weight(4, 4, groups_of=_SHUFFLED), None),
    "int4 act-order, asymmetric": (random_weight(4, 4, zeros=True, groups_of=_SHUFFLED), None),
    "int4 unequal groups": (random_weight(4, 3, groups_of=_UNEQUAL), None),
    "int4 unequal groups, asymmetric": (random_weight(4, 3, zeros=True, groups_of=_UNEQUAL), None),
    "int4, int8 per block": (random_weight(4, 2), Activation("int8-block", block=128)),
    "int4, int8 per token": (random_weight(4, 2), Activation("int8-token")),
    "int4, int8 per tensor": (random_weight(4, 2), Activation("int8-tensor", scale=0.02)),
    "int4, fp8 per token": (random_weight(4, 2), FP8_TOKEN),
    "int4, fp8 per tensor": (random_weight(4, 2), Activation("fp8-tensor", scale=0.01)),
    "int8 weights alone": (random_weight(8, 1), None),
    "int8 in groups": (random_weight(8, 4), None),
    "int8 in groups, asymmetric": (random_weight(8, 4, zeros=True), None),
    "int8, int8 per token": (random_weight(8, 1), Activation("int8-token")),
    "int8, int8 per token, divisor 127.5": (random_weight(8, 1), Activation("int8-token", divisor=127.5)),
    "int8, int8 per tensor": (random_weight(8, 1), Activation("int8-tensor", scale=0.02)),
    "int8 asymmetric, int8 per token": (random_weight(8, 1, zeros=True), Activation("int8-token")),
    "int8 in groups, int8 per token": (random_weight(8, 4), Activation("int8-token")),
    "fp4 weights alone": (fp4_weight(), None),
    "fp8 weights alone": (fp8_weight(), None),
    "fp8 weights alone, one scale": (fp8_tensor_weight(), None),
    "fp8 in blocks": (fp8_block_weight(), None),
    "fp8 in blocks, fp8 per block": (
        fp8_block_weight(),
        Activation("fp8-block", divisor=FP8_MAX, block=128),
    ),
    "fp8, fp8 per token": (fp8_weight(), FP8_TOKEN),
    "fp8, fp8 per tensor": (fp8_weight(), Activation("fp8-tensor", scale=0.01)),
    "fp8 of one scale, fp8 per tensor": (fp8_tensor_weight(), Activation("fp8-tensor", scale=0.01)),
}


ONNX_LAYERS = QDQ_LAYERS | {
    "fp4, fp4 per block": (fp4_weight(), Activation("fp4-block", FP4_MAX, scale=0.002, block=16)),
    "fp4, fp8 per block": (fp4_weight(), Activation("fp8-block", FP8_MAX, block=128)),
}
"""Layers of `QDQ_LAYERS`, and such as TensorRT has no form for, or no need of one."""


def qdq_layer(name: str) -> QuantizedLinear:
    """One of `ONNX_LAYERS`, with a bias."""
    weight, activation = ONNX_LAYERS[name]
    return QuantizedLinear(weight, torch.linspace(-1, 1, OUT), activation)


def qdq_graph(layer: nn.Module) -> ir.Model:
    """The layer for TensorRT."""
    return layer_graph(layer, "tensorrt")


def layer_graph(layer: nn.Module, target: Target) -> ir.Model:
    """x [1, tokens, in] -> y [1, tokens, out]"""
    with graph_kernels(layer, target):
        return trace(layer, {"x": torch.zeros(1, 33, IN)}, {"x": [1, "tokens", IN]}, ["y"])
