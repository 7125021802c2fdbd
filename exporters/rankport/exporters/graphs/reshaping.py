"""Reshapes and parts that a trace takes on trust: sizes fit by how a graph is fed, where symbols do not say so."""

from collections.abc import Sequence

import torch
from torch import Tensor

Size = int | Tensor  # a tensor [1] int64, of `size_of`
_MOST = 2**62  # no axis is as long


def size_of(states: Tensor, axis: int) -> Size:
    """Gives a size for the `form` of `reshaped`, as what a graph reads of its input."""
    if not torch.compiler.is_exporting():
        return states.shape[axis]
    return torch.onnx.ops.symbolic(
        "Shape", [states], {"start": axis, "end": axis + 1}, dtype=torch.int64, shape=(1,), version=None
    )


def reshaped(states: Tensor, shape: Sequence[int], form: Sequence[Size]) -> Tensor:
    """Reshapes to `shape`; what a graph does is `form`, which has the same sizes, -1 for one that follows."""
    if not torch.compiler.is_exporting():
        return states.reshape(tuple(shape))
    sizes = torch.cat([size if isinstance(size, Tensor) else torch.tensor([size]) for size in form])
    return torch.onnx.ops.symbolic(
        "Reshape", [states, sizes], dtype=states.dtype, shape=tuple(shape), version=None
    )


def parted(states: Tensor, axis: int, count: int, size: Size) -> tuple[Tensor, Tensor]:
    """Gives the first `count` along an axis and the rest, which may be none; a graph reads the count from `size`."""
    left = states.shape[axis] - count
    if not torch.compiler.is_exporting():
        return states.narrow(axis, 0, count), states.narrow(axis, count, left)
    until = size if isinstance(size, Tensor) else torch.tensor([size])

    def part(start: Tensor, end: Tensor, length: int) -> Tensor:
        shape = (*states.shape[:axis], length, *states.shape[axis + 1 :])
        bounds = [start, end, torch.tensor([axis])]
        return torch.onnx.ops.symbolic(
            "Slice", [states, *bounds], dtype=states.dtype, shape=shape, version=None
        )

    return part(torch.tensor([0]), until, count), part(until, torch.tensor([_MOST]), left)
