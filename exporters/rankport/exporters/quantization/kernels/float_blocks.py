"""Float8 weights with a scale a block, where a runtime dequantizes whole matrices alone, as ONNX Runtime on CUDA."""

import math

import torch
from torch import Tensor, nn

from rankport.exporters.quantization.activation import Activation
from rankport.exporters.quantization.weight import QuantizedWeight


class FloatBlocksKernel(nn.Module):
    """x [..., in] fp32 -> [..., out] fp32. The weight stays in float8; its scales come in by a product of their own.

    The one scale that the operator takes is a power of two: it loses nothing, and leaves scales that half precision
    holds, as those of weights alone are near its smallest numbers.
    """

    codes: Tensor  # [in, out] float8_e4m3fn
    scales: Tensor  # [groups, 1, out]
    unit: Tensor

    def __init__(self, weight: QuantizedWeight, activation: Activation | None) -> None:
        """Call only where `fits`."""
        super().__init__()
        self.activation = activation
        unit = 2.0 ** math.floor(math.log2(weight.scales.max().item()))
        self.register_buffer("codes", weight.codes.T.contiguous(), persistent=False)
        self.register_buffer("scales", (weight.scales / unit).T[:, None].contiguous(), persistent=False)
        self.register_buffer("unit", torch.tensor(unit), persistent=False)

    @staticmethod
    def fits(weight: QuantizedWeight) -> bool:
        """Tells float8 in contiguous groups."""
        return weight.type == "float" and weight.groups > 1 and weight.groups_of is None

    def forward(self, x: Tensor) -> Tensor:
        """Emits the operators."""
        if self.activation is not None:
            x = self.activation.rounded(x)
        codes = torch.onnx.ops.symbolic(
            "DequantizeLinear",
            [self.codes, self.unit],
            dtype=torch.float32,
            shape=tuple(self.codes.shape),
            version=21,
        )
        by_group = codes.reshape(len(self.scales), -1, codes.shape[1])
        product: Tensor = x @ (by_group * self.scales).flatten(0, 1)
        return product
