"""Integer matrix product of signed bytes: int8 weights with a scale a channel, against int8 activations.

For ONNX Runtime on CUDA, whose MatMulInteger takes no unsigned bytes; the CPU's kernel is `integer`. It copies a matrix
whose rows are no multiple of 32 bytes before each product (`GemmInt8` in its integer_gemm.cc): slower, never wrong.
"""

import torch
from torch import Tensor, nn

from rankport.exporters.quantization.activation import Activation
from rankport.exporters.quantization.kernels.integer import IntegerKernel
from rankport.exporters.quantization.weight import QuantizedWeight


class SignedKernel(nn.Module):
    """x [..., in] fp32 -> [..., out] fp32.

    All but the product is meant for fp32: half precision holds neither sums of 32 bits nor the scale of a quiet token.
    """

    codes: Tensor  # [in, out] int8
    scales: Tensor  # [out] fp32, times the activation's where that is fixed

    def __init__(self, weight: QuantizedWeight, activation: Activation | None) -> None:
        """Call only where `fits`."""
        super().__init__()
        assert activation is not None
        self.activation = activation
        self.out_features = weight.out_features
        scales = weight.scales[:, 0].expand(weight.out_features) * (activation.scale or 1.0)
        self.register_buffer("codes", weight.codes.T.contiguous(), persistent=False)
        self.register_buffer("scales", scales.contiguous(), persistent=False)

    fits = staticmethod(IntegerKernel.fits)

    def forward(self, x: Tensor) -> Tensor:
        """Emits the rounding, the operator, and both scales."""
        scales = self.activation.scales(x)
        product = torch.onnx.ops.symbolic(
            "MatMulInteger",
            [self.activation.codes(x, scales).to(torch.int8), self.codes],
            dtype=torch.int32,
            shape=(*x.shape[:-1], self.out_features),
            version=10,
        )
        scaled = product.to(torch.float32) * self.scales
        return scaled if self.activation.scale is not None else scaled * scales
