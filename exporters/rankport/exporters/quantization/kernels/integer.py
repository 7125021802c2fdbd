"""Integer matrix product: int8 weights with a scale a channel, against activations in one byte or two."""

import torch
from torch import Tensor, nn

from rankport.exporters.quantization.activation import FINE, Activation
from rankport.exporters.quantization.weight import QuantizedWeight

_ZERO = 128
"""Codes of activations are stored unsigned around this: x86 multiplies unsigned by signed bytes."""


class IntegerKernel(nn.Module):
    """x [..., in] fp32 -> [..., out] fp32."""

    codes: Tensor  # [in, out] int8
    scales: Tensor  # [out] fp32
    one: Tensor
    fine: Tensor
    zero: Tensor

    def __init__(self, weight: QuantizedWeight, activation: Activation | None) -> None:
        """Call only where `fits`."""
        super().__init__()
        assert activation is not None
        self.activation = activation
        self.out_features = weight.out_features
        self.register_buffer("codes", weight.codes.T.contiguous(), persistent=False)
        self.register_buffer(
            "scales", weight.scales[:, 0].expand(weight.out_features).contiguous(), persistent=False
        )
        self.register_buffer("one", torch.tensor(1.0), persistent=False)
        self.register_buffer("fine", torch.tensor(1 / FINE), persistent=False)
        self.register_buffer("zero", torch.tensor(_ZERO, dtype=torch.uint8), persistent=False)

    @staticmethod
    def fits(weight: QuantizedWeight, activation: Activation | None) -> bool:
        """Tells symmetric integers on both sides, weights of int8 with one scale a channel."""
        return (
            activation is not None
            and activation.kind in ("int8-token", "int8-tensor", "int16-token")
            and (weight.type, weight.bits, weight.groups, weight.zeros) == ("int", 8, 1, None)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Emits the rounding and the operators; the token's scale comes last, as an operator takes one a tensor."""
        scales = self.activation.scales(x)
        inputs = x / scales
        product = self._product(inputs, self.one)
        if self.activation.kind == "int16-token":
            product = product + self._product(inputs - inputs.round(), self.fine)
        return product * scales

    def _product(self, inputs: Tensor, step: Tensor) -> Tensor:
        """Multiplies inputs rounded to bytes of `step`: one operator rounds (ties to even), saturates and narrows."""
        codes = torch.onnx.ops.symbolic(
            "QuantizeLinear", [inputs, step, self.zero], dtype=torch.uint8, shape=inputs.shape, version=21
        )
        product: Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::MatMulIntegerToFloat",
            [codes, self.codes, step, self.scales, self.zero],
            dtype=torch.float32,
            shape=(*inputs.shape[:-1], self.out_features),
            version=1,
        )
        return product
