"""Integer matrix product: int8 weights with a scale a channel, against int8 activations with a scale a token."""

import torch
from torch import Tensor, nn

from rankport.exporters.quantization.activation import Activation
from rankport.exporters.quantization.weight import QuantizedWeight

_ZERO = 128
"""Codes of activations are stored unsigned around this: x86 multiplies unsigned by signed bytes."""


class IntegerKernel(nn.Module):
    """x [..., in] fp32 -> [..., out] fp32."""

    codes: Tensor  # [in, out] int8
    scales: Tensor  # [out] fp32
    one: Tensor
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
        self.register_buffer("zero", torch.tensor(_ZERO, dtype=torch.uint8), persistent=False)

    @staticmethod
    def fits(weight: QuantizedWeight, activation: Activation | None) -> bool:
        """Tells symmetric int8 on both sides, one scale a channel."""
        return (
            activation is not None
            and activation.kind in ("int8-token", "int8-tensor")
            and (weight.type, weight.bits, weight.groups, weight.zeros) == ("int", 8, 1, None)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Emits the rounding and the operator; the token's scale comes last, as the operator takes one a tensor."""
        scales = self.activation.scales(x)
        # One operator that rounds (ties to even), saturates and narrows, as `Activation.codes` does.
        codes = torch.onnx.ops.symbolic(
            "QuantizeLinear", [x / scales, self.one, self.zero], dtype=torch.uint8, shape=x.shape, version=21
        )
        product = torch.onnx.ops.symbolic(
            "com.microsoft::MatMulIntegerToFloat",
            [codes, self.codes, self.one, self.scales, self.zero],
            dtype=torch.float32,
            shape=(*x.shape[:-1], self.out_features),
            version=1,
        )
        return product * scales
