"""com.microsoft QMoE: the chosen experts of a token, their weights in 4 or 8 bits, their inputs in full precision."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rankport.exporters.graphs.passes.expert_layout import alternating
from rankport.exporters.quantization.experts import LowBitExperts
from rankport.exporters.quantization.kernels.nbits import packed_codes
from rankport.exporters.quantization.weight import QuantizedWeight


class ExpertsKernel(nn.Module):
    """states [tokens, hidden], logits [tokens, experts] -> [tokens, hidden], fp32.

    Matrices are [experts, out, in * bits / 8] uint8, their scales [experts, out, in / block] or, of whole rows,
    [experts, out]; rows of gate and up alternate.
    """

    up: Tensor
    up_scales: Tensor
    up_bias: Tensor | None
    down: Tensor
    down_scales: Tensor
    down_bias: Tensor | None
    up_zeros: Tensor | None  # [experts, out, blocks * bits / 8]
    down_zeros: Tensor | None

    def __init__(self, experts: Any, low_bits: LowBitExperts) -> None:
        super().__init__()
        self.bits, self.block = low_bits.up.bits, low_bits.group
        count = len(experts.down_proj)
        up, scales, zeros = _stored(low_bits.up, low_bits.group, count)
        bias = experts.gate_up_proj_bias.detach() if experts.has_bias else None
        if experts.is_concatenated:
            up, scales = alternating(up), alternating(scales)
            bias = None if bias is None else alternating(bias)
            zeros = None if zeros is None else alternating(zeros)
        down, down_scales, down_zeros = _stored(low_bits.down, low_bits.group, count)
        buffers = {
            "up": up,
            "up_scales": scales,
            "up_bias": bias,
            "down": down,
            "down_scales": down_scales,
            "down_bias": experts.down_proj_bias.detach() if experts.has_bias else None,
            "up_zeros": zeros,
            "down_zeros": down_zeros,
        }
        for name, value in buffers.items():
            self.register_buffer(name, None if value is None else value.contiguous(), persistent=False)

    def forward(self, states: Tensor, logits: Tensor, options: Mapping[str, int | float | str]) -> Tensor:
        """Emits the operator with the options of MoE."""
        zeros = [self.up_zeros, self.down_zeros]
        blocks = {} if self.block is None else {"block_size": self.block}
        return torch.onnx.ops.symbolic(
            "com.microsoft::QMoE",
            [
                states,
                logits,
                self.up,
                self.up_scales,
                self.up_bias,
                self.down,
                self.down_scales,
                self.down_bias,
                *([] if zeros == [None, None] else [None, None, None, *zeros]),
            ],
            {**options, "expert_weight_bits": self.bits, **blocks},
            dtype=torch.float32,
            shape=states.shape,
            version=1,
        )


def _stored(weight: QuantizedWeight, group: int | None, count: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gives codes, scales and zero points as the operator has them, for `count` experts one under the other."""
    codes = packed_codes(weight.codes, weight.bits).reshape(count, -1, weight.in_features * weight.bits // 8)
    scales = weight.scales.reshape(count, codes.shape[1], -1)
    if weight.zeros is None:
        return codes, scales[..., 0] if group is None else scales, None
    per_byte = 8 // weight.bits
    even = nn.functional.pad(weight.zeros, (0, -weight.groups % per_byte))
    return codes, scales, packed_codes(even, weight.bits).reshape(count, codes.shape[1], -1)
