"""DequantizeLinear before a plain product: any low-bit weight, kept low-bit in the file and in memory."""

import torch
from torch import Tensor, nn

from rankport.exporters.graphs.passes.low_bit_types import DEQUANTIZE_INT4
from rankport.exporters.quantization.activation import Activation
from rankport.exporters.quantization.weight import QuantizedWeight


class DequantizeKernel(nn.Module):
    """x [..., in] fp32 -> [..., out] fp32. Runtimes do not fold DequantizeLinear, so the weight stays low-bit."""

    codes: Tensor  # [in, out] int8 or float8
    scales: Tensor  # [groups, out], or [out]
    zeros: Tensor | None  # as the scales, of the codes' type
    order: Tensor | None  # [in] int64, where groups are not contiguous

    def __init__(
        self, weight: QuantizedWeight, activation: Activation | None, *, int4_channels: bool = True
    ) -> None:
        """`int4_channels`: whether the runtime dequantizes 4-bit codes of one scale a channel; else they take 8."""
        super().__init__()
        self.activation = activation
        ordered, order = weight, None
        if weight.groups_of is not None:
            contiguous = weight.sorted_by_group()
            # Groups of unequal length have no blocks: a scale for every weight is what is left.
            ordered, order = contiguous if contiguous is not None else (_ungrouped(weight), None)
        self.block = ordered.group_size or 0
        scales = ordered.scales.expand(ordered.out_features, -1).T.contiguous()
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("codes", ordered.codes.T.contiguous(), persistent=False)
        self.register_buffer("scales", scales if self.block else scales[0], persistent=False)
        self.is_int4 = ordered.bits == 4 and ordered.zeros is None and bool(self.block or int4_channels)
        zeros = None if ordered.zeros is None else ordered.zeros.T.contiguous()
        if zeros is None and ordered.type == "int" and not self.is_int4:
            # ONNX Runtime makes int8 constants unsigned where that is safer, and then needs a zero point a scale.
            zeros = torch.zeros(scales.shape, dtype=torch.int8)
        self.register_buffer("zeros", zeros if zeros is None or self.block else zeros[0], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Emits the operator."""
        if self.activation is not None:
            x = self.activation.rounded(x)
        if self.order is not None:
            x = x.index_select(-1, self.order)
        inputs: list[Tensor | None] = [self.codes, self.scales]
        if self.zeros is not None:
            inputs.append(self.zeros)
        weight = torch.onnx.ops.symbolic(
            DEQUANTIZE_INT4 if self.is_int4 else "DequantizeLinear",
            inputs,
            {"axis": 0, "block_size": self.block} if self.block else {"axis": 1},
            dtype=torch.float32,
            shape=tuple(self.codes.shape),
            version=1 if self.is_int4 else 21,
        )
        return x @ weight


def _ungrouped(weight: QuantizedWeight) -> QuantizedWeight:
    assert weight.groups_of is not None
    zeros = None if weight.zeros is None else weight.zeros[:, weight.groups_of]
    return QuantizedWeight(weight.codes, weight.scales[:, weight.groups_of], zeros, weight.bits)
