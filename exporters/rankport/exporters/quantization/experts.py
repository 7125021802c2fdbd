"""Experts in low bits: the codes of all matrices of a layer, beside the weights that they stand for.

transformers' own code reads the weights, as the reference; a graph for CPUs has the codes (see `kernels.experts`).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rankport.exporters.graphs.swiglu import swiglu_of
from rankport.exporters.quantization.coarse import is_coarse
from rankport.exporters.quantization.recipes import Recipe
from rankport.exporters.quantization.rounding import round_to_nearest
from rankport.exporters.quantization.weight import QuantizedWeight


@dataclass(frozen=True, slots=True, eq=False)
class LowBitExperts:
    """Matrices of the experts of a layer, one under the other; of gate and up as the experts' class joins them."""

    up: QuantizedWeight  # [experts * 2 width, hidden]
    down: QuantizedWeight  # [experts * hidden, width]
    group: int | None  # input channels that share a scale, the same of both; None: rows

    @classmethod
    def of(cls, up: QuantizedWeight, down: QuantizedWeight) -> "LowBitExperts | None":
        """Takes matrices of which both have a scale a row, or of a group of one size; None for others."""
        sizes = {up.in_features // up.groups, down.in_features // down.groups}
        if up.groups == down.groups == 1:
            return cls(up, down, None)
        return cls(up, down, sizes.pop()) if len(sizes) == 1 and up.bits == down.bits else None

    @property
    def weights(self) -> int:
        """Values of both."""
        return self.up.codes.numel() + self.down.codes.numel()


def low_bits_of(module: nn.Module) -> LowBitExperts | None:
    """Gives the codes of experts in low bits; None of any other module."""
    found = getattr(module, "low_bits", None)
    return found if isinstance(found, LowBitExperts) else None


def keep_codes(experts: Any, low_bits: LowBitExperts | None) -> bool:
    """Gives experts whose weights are what the codes stand for these codes, where an operator takes them."""
    if low_bits is None or experts.is_transposed or swiglu_of(experts) is None:
        return False
    experts.low_bits, experts.kernel = low_bits, None  # a graph is traced by the kernel
    return True


def _set_low_bits(experts: Any, low_bits: LowBitExperts) -> None:
    """Gives experts their codes, and for weights what these stand for."""
    for name, matrix in (("gate_up_proj", low_bits.up), ("down_proj", low_bits.down)):
        parameter = getattr(experts, name)
        rows = matrix.dequantized().reshape(len(parameter), -1, matrix.in_features)
        parameter.data = rows.transpose(1, 2).contiguous() if experts.is_transposed else rows
    experts.low_bits, experts.kernel = low_bits, None  # a graph is traced by the kernel


def all_experts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Finds the experts of a model, which keep the matrices of a layer in two parameters."""
    return [(name, part) for name, part in model.named_modules() if hasattr(part, "has_post_expert_norm")]


def quantize_experts(experts: Any, recipe: Recipe) -> LowBitExperts | None:
    """Rounds the experts of a layer to nearest, in place. None, and nothing is done, where they stay as they are.

    So they do where no group fits both their widths, no operator has their gate, or the grid is too coarse for them.
    """
    matrices = [_rows(experts, weight) for weight in (experts.gate_up_proj, experts.down_proj)]
    group = recipe.group_of_widths(*(matrix.shape[1] for matrix in matrices))
    if group == 0 or swiglu_of(experts) is None:
        return None
    if recipe.repeats is None and any(
        is_coarse(matrix, torch.ones(matrix.shape[1]), recipe, group) for matrix in matrices
    ):
        return None
    up, down = (round_to_nearest(matrix.float(), recipe, group) for matrix in matrices)
    low_bits = LowBitExperts(up, down, group)
    _set_low_bits(experts, low_bits)
    return low_bits


def _rows(experts: Any, weight: Tensor) -> Tensor:
    """Reads [experts, out, in], or as it may be stored [experts, in, out], as rows [experts * out, in]."""
    matrices = weight.detach()
    return (matrices.transpose(1, 2) if experts.is_transposed else matrices).flatten(0, 1)
