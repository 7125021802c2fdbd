"""Experts in low bits: the codes of all matrices of a layer, beside the weights that they stand for.

transformers' own code reads the weights, as the reference; a graph for CPUs has the codes (see `kernels.experts`).
Experts whose inputs are rounded are computed here, as transformers' code rounds none.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from rankport.exporters.graphs.experts.swiglu import swiglu_of
from rankport.exporters.quantization.activation import Activation
from rankport.exporters.quantization.coarse import is_coarse
from rankport.exporters.quantization.facts import SchemeFacts
from rankport.exporters.quantization.recipes import Recipe
from rankport.exporters.quantization.rounding import round_to_nearest
from rankport.exporters.quantization.weight import QuantizedWeight

_ROUNDED = "rankport_rounded_inputs"


@dataclass(frozen=True, slots=True)
class RoundedInputs:
    """Rounding of what an expert reads: of its states, and of what its second product takes."""

    states: Activation
    inner: Activation
    stated: SchemeFacts  # of a layer of them


@dataclass(frozen=True, slots=True, eq=False)
class LowBitExperts:
    """Matrices of the experts of a layer, one under the other; of gate and up as the experts' class joins them."""

    up: QuantizedWeight  # [experts * 2 width, hidden]
    down: QuantizedWeight  # [experts * hidden, width]
    group: int | None  # input channels that share a scale, the same of both; None: rows

    @classmethod
    def of(cls, up: QuantizedWeight, down: QuantizedWeight) -> "LowBitExperts | None":
        """Takes matrices of equal bits of which both have a scale a row, or of a group of one size; None for others."""
        if up.bits != down.bits:
            return None
        if up.groups == down.groups == 1:
            return cls(up, down, None)
        sizes = {up.in_features // up.groups, down.in_features // down.groups}
        return cls(up, down, sizes.pop()) if len(sizes) == 1 else None

    @property
    def stated(self) -> SchemeFacts:
        """Facts of a layer of them."""
        weights = self.up.codes.numel() + self.down.codes.numel()
        symmetric = self.up.zeros is None and self.down.zeros is None
        return SchemeFacts("experts", 1, weights, self.up.bits, "int", self.group, symmetric, "none")


def stated_of(module: nn.Module) -> SchemeFacts | None:
    """Gives the facts of experts in low bits, by codes or by their inputs; None of any other module."""
    form = low_bits_of(module) or getattr(module, "rounding", None)
    return form.stated if isinstance(form, LowBitExperts | RoundedInputs) else None


def schemes_of(model: nn.Module) -> list[SchemeFacts]:
    """Lists what the experts of a model are quantized alike by."""
    counts: dict[SchemeFacts, tuple[int, int]] = {}
    for stated in filter(None, map(stated_of, model.modules())):
        alike = replace(stated, layers=0, weights=0)
        layers, weights = counts.get(alike, (0, 0))
        counts[alike] = (layers + 1, weights + stated.weights)
    return [replace(alike, layers=layers, weights=weights) for alike, (layers, weights) in counts.items()]


def low_bits_of(module: nn.Module) -> LowBitExperts | None:
    """Gives the codes of experts in low bits; None of any other module."""
    found = getattr(module, "low_bits", None)
    return found if isinstance(found, LowBitExperts) else None


def keep_codes(experts: Any, low_bits: LowBitExperts | None) -> bool:
    """Gives experts whose weights are what the codes stand for these codes, where an operator takes them."""
    if low_bits is None or experts.is_transposed or swiglu_of(experts) is None:
        return False
    _set_codes(experts, low_bits)
    return True


def _set_codes(experts: Any, low_bits: LowBitExperts) -> None:
    experts.low_bits, experts.kernel = low_bits, None  # a graph is traced by the kernel


def _set_weights(experts: Any, low_bits: LowBitExperts) -> None:
    """Gives experts for weights what their codes stand for."""
    for name, matrix in (("gate_up_proj", low_bits.up), ("down_proj", low_bits.down)):
        parameter = getattr(experts, name)
        rows = matrix.dequantized().reshape(len(parameter), -1, matrix.in_features)
        parameter.data = rows.transpose(1, 2).contiguous() if experts.is_transposed else rows


def round_inputs(experts: Any, rounding: RoundedInputs) -> None:
    """Has experts round their inputs, run in torch and traced. `unrounded_inputs` has them not."""
    ALL_EXPERTS_FUNCTIONS.register(_ROUNDED, _with_rounded_inputs)
    experts.rounding = rounding
    experts.config._experts_implementation = _ROUNDED


def _with_rounded_inputs(experts: Any, states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Computes sum_k weights[t, k] * expert_{chosen[t, k]}(states[t]), an expert after another.

    states [tokens, hidden], chosen [tokens, k] int64, weights [tokens, k] -> [tokens, hidden].
    """
    rounding: RoundedInputs | None = getattr(experts, "rounding", None)
    read = states if rounding is None else rounding.states.rounded(states)
    total = torch.zeros_like(states)
    for expert in range(len(experts.down_proj)):
        token, place = (chosen == expert).nonzero(as_tuple=True)
        if not len(token):
            continue
        inner = experts._apply_gate(nn.functional.linear(read[token], experts.gate_up_proj[expert]))
        inner = inner if rounding is None else rounding.inner.rounded(inner)
        given = nn.functional.linear(inner, experts.down_proj[expert]) * weights[token, place, None]
        total.index_add_(0, token, given.to(total.dtype))
    return total


def quantize_experts(experts: Any, recipe: Recipe) -> LowBitExperts | None:
    """Rounds the experts of a layer to nearest, in place. None, and nothing is done, where they stay as they are.

    So they do where no group fits both their widths, no operator has their gate, or the grid is too coarse for them.
    """
    if swiglu_of(experts) is None:
        return None
    matrices = [_rows(experts, weight) for weight in (experts.gate_up_proj, experts.down_proj)]
    group = recipe.group_of_widths(*(matrix.shape[1] for matrix in matrices))
    if group == 0:
        return None
    if recipe.repeats is None and any(
        is_coarse(matrix, torch.ones(matrix.shape[1]), recipe, group) for matrix in matrices
    ):
        return None
    up, down = (round_to_nearest(matrix.float(), recipe, group) for matrix in matrices)
    low_bits = LowBitExperts(up, down, group)
    _set_weights(experts, low_bits)
    _set_codes(experts, low_bits)
    return low_bits


def _rows(experts: Any, weight: Tensor) -> Tensor:
    """Reads [experts, out, in], or as it may be stored [experts, in, out], as rows [experts * out, in]."""
    matrices = weight.detach()
    return (matrices.transpose(1, 2) if experts.is_transposed else matrices).flatten(0, 1)
