"""Low-bit activations: how a layer's input is rounded before the product."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal[
    "int8-token",
    "int8-block",
    "int8-tensor",
    "int16-token",
    "fp8-token",
    "fp8-block",
    "fp8-tensor",
    "fp4-block",
]
FP8_MAX = 448.0
"""The largest finite value of float8 e4m3fn (arXiv 2209.05433, table 1)."""

FP4_MAX = 6.0

FINE = 254.0
"""Steps between two codes of int8 that int16 has: its second byte goes from -127 to 127."""


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """Symmetric rounding of inputs x[..., in] to a low-bit grid.

    token   scale = max |x| of the token / divisor, for each token: dynamic, so no score depends on its batch
    block   the same for each block of consecutive channels of a token
    tensor  one fixed scale, from calibration

    int16 is two bytes of one scale: the code of int8, and in steps of 1 / `FINE` of one what that rounded away. A
    block's scale of fp4 is a value of fp8 in units of the tensor's `scale` (NVFP4).
    """

    kind: Kind
    divisor: float = 127.0  # largest code that a token's largest value maps to
    scale: float | None = None  # of the tensor kinds, and the unit of fp4's
    block: int | None = None  # channels, of the block kinds
    least_scale: float = torch.finfo(torch.float32).eps  # of a token of zeros
    by_sums: bool = (
        False  # has values of fp8 made by `fp8_by_sums`: the same, and faster where a cast is slow
    )

    def __post_init__(self) -> None:
        assert ("tensor" in self.kind or self.kind == "fp4-block") == (self.scale is not None)
        assert self.kind.endswith("block") == (self.block is not None)

    @property
    def name(self) -> str:
        """Words for people and the manifest."""
        kind, grain = self.kind.split("-")
        return f"{kind} per {self.block} channels" if self.block else f"{kind} per {grain}"

    def scales(self, x: Tensor) -> Tensor:
        """Computes scales: fp32, broadcastable to `x`."""
        if self.kind == "fp4-block":
            assert self.scale is not None
            units = x.abs().amax(dim=-1, keepdim=True) / (self.divisor * self.scale)
            return self._fp8(units.clamp(max=FP8_MAX)) * self.scale
        if self.scale is not None:
            return torch.tensor(self.scale)
        # Written as a product and a maximum: what the exported graph computes too.
        return (x.abs().amax(dim=-1, keepdim=True) / self.divisor).clamp(min=self.least_scale)

    def codes(self, x: Tensor, scales: Tensor) -> Tensor:
        """Rounds to values of the grid, still fp32; ties go to even."""
        if self.kind.startswith("fp8"):
            return self._fp8((x / scales).clamp(-FP8_MAX, FP8_MAX))
        if self.kind == "fp4-block":
            # A scale may be 0: then so is what codes stand for, whatever they are.
            values = (x / scales.clamp(min=torch.finfo(torch.float32).tiny)).clamp(-FP4_MAX, FP4_MAX)
            # Values of fp4 lie .5 apart below 2, then 1, then 2: ties go to even in each.
            steps = torch.where(values.abs() < 2.0, 0.5, torch.where(values.abs() < 4.0, 1.0, 2.0))
            return (values / steps).round() * steps
        if self.kind == "int16-token":
            coarse = (x / scales).round()
            return coarse + ((x / scales - coarse) * FINE).round() / FINE
        return (x / scales).round().clamp(-128, 127)

    def fp8_codes(self, x: Tensor, scales: Tensor) -> Tensor:
        """Rounds to values of the grid of the fp8 kinds: float8_e4m3fn; what is beyond it, to its edge."""
        return (x / scales).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn)

    def _fp8(self, values: Tensor) -> Tensor:
        return fp8_by_sums(values) if self.by_sums else values.to(torch.float8_e4m3fn).to(torch.float32)

    def blocks(self, x: Tensor) -> Tensor:
        """Parts channels of the block kinds, the last block filled up with zeros: [..., blocks, block]."""
        assert self.block is not None
        padding = -x.shape[-1] % self.block
        return torch.nn.functional.pad(x, (0, padding)).reshape(*x.shape[:-1], -1, self.block)

    def rounded(self, x: Tensor) -> Tensor:
        """Gives `x` as the product sees it, fp32."""
        if self.block is not None:
            blocks = self.blocks(x)
            scales = self.scales(blocks)
            return joined(self.codes(blocks, scales) * scales, x.shape[-1])
        scales = self.scales(x)
        return self.codes(x, scales) * scales


def fp8_by_sums(values: Tensor) -> Tensor:
    """Rounds values of at most `FP8_MAX` to those of float8 e4m3fn as a cast does, by sums that fp32 rounds one by one.

    What is left of x after c = (2 ** 20 + 1) x is added and taken away are 4 bits, those that e4m3 has (Veltkamp's
    splitting: Dekker, 1971, section 5). Below 2 ** -6 values of e4m3 lie 2 ** -9 apart, as do those of fp32 at 2 ** 14.
    """
    spread = values * (2.0**20 + 1)
    shift = 1.5 * 2.0**14
    return torch.where(values.abs() < 2.0**-6, (values + shift) - shift, spread - (spread - values))


def joined(blocks: Tensor, channels: int) -> Tensor:
    """Puts [..., blocks, block] together again: [..., channels]."""
    return blocks.flatten(-2)[..., :channels]
