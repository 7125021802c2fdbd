"""Experts of a quantized checkpoint, each matrix of which is a layer of its own: their codes as one stack a layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.forms.made_tensors import MadeTensor
from rankport.exporters.checkpoints.forms.stored_experts import Matrices, complete
from rankport.exporters.graphs.experts.modules import all_experts, subtracts
from rankport.exporters.quantization.activation import Activation
from rankport.exporters.quantization.experts import (
    LowBitExperts,
    RoundedInputs,
    keep_codes,
    round_inputs,
)
from rankport.exporters.quantization.facts import SchemeFacts
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.weight import QuantizedWeight
from rankport.protos.errors import CheckpointError

_BLOCKS = (None, 16, 32, 64, 128, 256)
"""Groups that ONNX Runtime's operator of low-bit experts takes."""


@dataclass(frozen=True, slots=True)
class LowBitStack:
    """The matrices of a stack, in the order of their rows."""

    matrices: tuple[QuantizedWeight, ...]
    taken: tuple[str, ...]  # stored tensors that they were made of
    activation: Activation | None  # how the inputs of all of them are rounded

    def dequantized(self, shape: tuple[int, ...]) -> Tensor:
        """Computes what they stand for: fp32 [experts, rows, columns]."""
        return torch.cat([matrix.dequantized() for matrix in self.matrices]).reshape(shape)

    def joined(self) -> QuantizedWeight | None:
        """Gives one matrix [experts * rows, columns]; None where no operator takes one of their form.

        Of 8 bits in groups ONNX Runtime 1.32 would round the inputs, which the checkpoint does not say.
        """
        first = self.matrices[0]
        zeros = [matrix.zeros for matrix in self.matrices]
        alike = all(
            (one.bits, one.groups, one.scales.shape) == (first.bits, first.groups, first.scales.shape)
            for one in self.matrices
        )
        fits = first.type == "int" and first.group_size in _BLOCKS and len(first.scales) == first.out_features
        fits = fits and (first.bits == 4 or first.groups == 1)
        plain = all(one.groups_of is None and not one.is_fp4 for one in self.matrices)
        if not (alike and fits and plain) or (first.groups == 1 and any(part is not None for part in zeros)):
            return None
        middle = torch.zeros_like(first.scales, dtype=torch.int8)
        return QuantizedWeight(
            torch.cat([matrix.codes for matrix in self.matrices]),
            torch.cat([matrix.scales for matrix in self.matrices]),
            None
            if all(part is None for part in zeros)
            else torch.cat([middle if part is None else part for part in zeros]),
            first.bits,
        )


def read_stacks(
    model: nn.Module,
    stored: Mapping[str, Matrices],
    read: Callable[[str, nn.Linear], tuple[QuantizedLinear, tuple[str, ...]]],
) -> dict[str, LowBitStack]:
    """Reads the experts `stored`, by stack. Raises CheckpointError naming the layer at fault."""
    return {
        stack: _read_stack(model.get_parameter(stack), matrices, read) for stack, matrices in stored.items()
    }


def made_of(model: nn.Module, stacks: Mapping[str, LowBitStack]) -> dict[str, MadeTensor]:
    """Gives the weights that the stacks stand for, as tensors to fill a model with."""

    def made(name: str, stack: LowBitStack) -> MadeTensor:
        shape = tuple(model.get_parameter(name).shape)
        return MadeTensor(shape, stack.taken, lambda: stack.dequantized(shape))

    return {name: made(name, stack) for name, stack in stacks.items()}


def keep_stacks(model: nn.Module, stacks: Mapping[str, LowBitStack]) -> int:
    """Gives the experts of a filled model their codes; returns of how many none is kept, as no operator takes them."""
    left, has_operator = 0, not subtracts(model)
    for name, experts in all_experts(model):
        of_one = [stacks.get(f"{name}.{leaf}") for leaf in ("gate_up_proj", "down_proj")]
        if of_one == [None, None]:
            continue
        rounded = [None if stack is None else stack.activation for stack in of_one]
        if rounded != [None, None]:
            round_inputs(experts, _rounding(name, experts, of_one))
            left += 1
            continue
        up, down = (None if stack is None else stack.joined() for stack in of_one)
        low_bits = None if up is None or down is None else LowBitExperts.of(up, down)
        left += not (has_operator and keep_codes(experts, low_bits))
    return left


def _read_stack(
    parameter: Tensor,
    matrices: Matrices,
    read: Callable[[str, nn.Linear], tuple[QuantizedLinear, tuple[str, ...]]],
) -> LowBitStack:
    experts, rows, columns = parameter.shape
    names = complete(matrices, experts, "quantized layer")
    place = nn.Linear(columns, rows // len(names[0]), bias=False, device="meta")
    layers = [(name, *read(name, place)) for of_one in names for name in of_one]
    first = layers[0][1].activation
    for name, layer, _ in layers:
        fixed = layer.activation is not None and layer.activation.scale is not None
        if fixed or layer.inputs != layers[0][1].inputs or layer.bias is not None:
            what = (
                "a bias" if layer.bias is not None else f"its inputs rounded by its own rule ({layer.inputs})"
            )
            raise CheckpointError(
                f"layer {name!r} is an expert's, in low bits with {what}: the experts of a layer read one input, and "
                "are supported where that is rounded by its own values, or not at all; export the original in full "
                "precision"
            )
    return LowBitStack(
        tuple(layer.quantized for _, layer, _ in layers),
        tuple(part for *_, taken in layers for part in taken),
        first,
    )


def _rounding(name: str, experts: Any, stacks: Sequence[LowBitStack | None]) -> RoundedInputs:
    """Raises CheckpointError for experts of which one product rounds its inputs, or that have biases."""
    up, down = (None if stack is None else stack.activation for stack in stacks)
    plain = experts.has_gate and not experts.has_bias and not experts.is_transposed
    if up is None or down is None or not plain:
        raise CheckpointError(
            f"experts {name!r} round the inputs of one product alone, or have biases or no gate: not supported with "
            "rounded inputs, export the original in full precision"
        )
    matrices = [matrix for stack in stacks if stack is not None for matrix in stack.matrices]
    first = matrices[0]
    stated = SchemeFacts(
        "experts",
        1,
        sum(matrix.codes.numel() for matrix in matrices),
        4 if first.is_fp4 else first.bits,
        "float" if first.is_fp4 else first.type,
        first.group_size,
        all(matrix.zeros is None for matrix in matrices),
        " and ".join(dict.fromkeys((up.name, down.name))),
    )
    return RoundedInputs(up, down, stated)
