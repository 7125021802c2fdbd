"""Complex numbers of a model that is traced, as pairs of real ones: ONNX has none.

Rotations of queries and keys are written so in some families (Llama 4, DeepSeek-V2): made by `torch.polar`, multiplied,
and taken apart again by `torch.view_as_real`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rankport.exporters.temporary_attributes import temporary_attributes


@dataclass(frozen=True, slots=True)
class ComplexPair:
    """A complex tensor: what rotations do with one, in real arithmetic."""

    real: Tensor
    imag: Tensor  # of the same shape

    @property
    def device(self) -> torch.device:
        """The device of both."""
        return self.real.device

    def __mul__(self, other: "ComplexPair | Tensor | float") -> "ComplexPair":
        if isinstance(other, ComplexPair):
            return ComplexPair(
                self.real * other.real - self.imag * other.imag,
                self.real * other.imag + self.imag * other.real,
            )
        return ComplexPair(self.real * other, self.imag * other)

    def __getitem__(self, places: Any) -> "ComplexPair":
        return ComplexPair(self.real[places], self.imag[places])

    def unsqueeze(self, dim: int) -> "ComplexPair":
        """Adds a dimension."""
        return ComplexPair(self.real.unsqueeze(dim), self.imag.unsqueeze(dim))

    def to(self, device: torch.device) -> "ComplexPair":
        """Moves both."""
        return ComplexPair(self.real.to(device), self.imag.to(device))


@contextmanager
def complex_as_pairs() -> Iterator[None]:
    """Has torch, while open, make `ComplexPair`s where a rotation makes complex tensors."""
    pairs = {"polar": _polar, "view_as_complex": _as_complex, "view_as_real": _as_real}
    with temporary_attributes(torch, pairs):
        yield


def _polar(length: Tensor, angle: Tensor) -> ComplexPair:
    return ComplexPair(length * angle.cos(), length * angle.sin())


def _as_complex(pairs: Tensor) -> ComplexPair:
    return ComplexPair(pairs[..., 0], pairs[..., 1])


def _as_real(pair: ComplexPair) -> Tensor:
    return torch.stack([pair.real, pair.imag], dim=-1)
