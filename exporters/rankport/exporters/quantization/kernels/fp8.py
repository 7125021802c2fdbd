"""Product of float8 by float8 on a GPU's tensor cores: see `graphs.passes.fp8_products`."""

import torch
from torch import Tensor, nn

from rankport.exporters.graphs.passes.fp8_products import FP8_PRODUCT, STEP
from rankport.exporters.quantization.activation import FP8_MAX, Activation
from rankport.exporters.quantization.weight import QuantizedWeight

_ALIGNED = 16
"""Bytes that rows of every matrix are a multiple of, for cuBLASLt's fp8 kernels."""


class Fp8Kernel(nn.Module):
    """x [..., in] fp32 -> [..., out] fp32.

    A token's scale comes last, as its largest value, which half precision holds if it holds the states.
    """

    codes: Tensor  # [out, in] float8_e4m3fn
    columns: Tensor  # [out] fp32

    def __init__(self, weight: QuantizedWeight, activation: Activation | None) -> None:
        """Call only where `fits`."""
        super().__init__()
        assert activation is not None
        self.activation = activation
        self.out_features = weight.out_features
        scale = 1 / FP8_MAX if activation.scale is None else activation.scale
        columns = weight.scales[:, 0].expand(weight.out_features) * (scale / STEP)
        self.register_buffer("codes", weight.codes.contiguous(), persistent=False)
        self.register_buffer("columns", columns.contiguous(), persistent=False)

    @staticmethod
    def fits(weight: QuantizedWeight, activation: Activation | None) -> bool:
        """Tells float8 on both sides, weights of one scale a channel, of a size that tensor cores take."""
        return (
            activation is not None
            and activation.kind in ("fp8-token", "fp8-tensor")
            and (weight.type, weight.groups, weight.zeros, weight.groups_of) == ("float", 1, None, None)
            and weight.in_features % _ALIGNED == 0
            and weight.out_features % _ALIGNED == 0
        )

    def forward(self, x: Tensor) -> Tensor:
        """Emits the rounding, the operator, and both scales."""
        scales = self.activation.scales(x)
        product: Tensor = torch.onnx.ops.symbolic(
            FP8_PRODUCT,
            [self.activation.fp8_codes(x, scales), self.codes, self.columns],
            dtype=torch.float32,
            shape=(*x.shape[:-1], self.out_features),
            version=1,
        )
        return product if self.activation.scale is not None else product * (scales * FP8_MAX)
