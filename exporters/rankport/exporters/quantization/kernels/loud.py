"""Integer matrix product beside loud columns: one operator while traced, see `graphs.passes.loud_products`."""

import torch
from torch import Tensor, nn

from rankport.exporters.graphs.passes.loud_products import LOUD_PRODUCT
from rankport.exporters.quantization.activation import Activation
from rankport.exporters.quantization.kernels.integer import IntegerKernel
from rankport.exporters.quantization.loud import LoudColumns
from rankport.exporters.quantization.weight import QuantizedWeight


class LoudKernel(nn.Module):
    """x [..., in] fp32 -> [..., out] fp32, on the CPU."""

    codes: Tensor  # [in, out] int8, zero in loud columns
    scales: Tensor  # [out] fp32
    quiet: Tensor  # [in] fp32, zero for loud columns
    places: Tensor  # [columns] int64
    weight: Tensor  # [columns, out] fp32

    def __init__(self, weight: QuantizedWeight, activation: Activation, loud: LoudColumns) -> None:
        """Call only where `fits`."""
        super().__init__()
        self.activation = activation
        integer = IntegerKernel(weight, activation)
        self.register_buffer("codes", integer.codes, persistent=False)
        self.register_buffer("scales", integer.scales, persistent=False)
        self.register_buffer("quiet", loud.quiet(weight.in_features), persistent=False)
        self.register_buffer("places", loud.places, persistent=False)
        self.register_buffer("weight", loud.weight.T.contiguous(), persistent=False)

    @staticmethod
    def fits(weight: QuantizedWeight, activation: Activation | None) -> bool:
        """Tells symmetric int8 on both sides, a scale a token and a scale a channel."""
        return (
            IntegerKernel.fits(weight, activation)
            and activation is not None
            and activation.kind == "int8-token"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Emits the operator."""
        product: Tensor = torch.onnx.ops.symbolic(
            LOUD_PRODUCT,
            [x, self.codes, self.scales, self.quiet, self.places, self.weight],
            {"divisor": self.activation.divisor, "least_scale": self.activation.least_scale},
            dtype=torch.float32,
            shape=(*x.shape[:-1], self.codes.shape[1]),
            version=1,
        )
        return product


class BesideLoud(nn.Module):
    """Any other kernel, of the quiet channels, and the loud ones beside it."""

    quiet: Tensor
    places: Tensor
    weight: Tensor

    def __init__(self, product: nn.Module, width: int, loud: LoudColumns) -> None:
        super().__init__()
        self.product = product
        self.register_buffer("quiet", loud.quiet(width), persistent=False)
        self.register_buffer("places", loud.places, persistent=False)
        self.register_buffer("weight", loud.weight.T.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., in] -> [..., out], fp32."""
        product: Tensor = self.product(x * self.quiet)
        return product + x.index_select(-1, self.places) @ self.weight
