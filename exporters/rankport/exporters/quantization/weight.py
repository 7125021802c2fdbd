"""A low-bit weight matrix: codes on a grid, scales, and what they stand for."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

CodeType = Literal["int", "float"]
_LEAST_GROUP = 16
"""Columns of the shortest groups that a kernel takes."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedWeight:
    """W[o, i] = (codes[o, i] - zeros[o, g]) * scales[o, g], where g is the group of input channel i."""

    codes: Tensor  # [out, in] int8 on a signed grid of `bits` (-8..7, -128..127), or float8_e4m3fn
    scales: Tensor  # [out, groups] fp32; one group: per channel; [1, 1]: per tensor
    zeros: Tensor | None  # [out, groups] int8 on the codes' grid; None: symmetric
    bits: int  # 4 or 8
    groups_of: Tensor | None = None  # [in] int64 group of each input channel; None: contiguous, equally long
    is_fp4: bool = False  # int8 codes are twice values of fp4: what products of integers compute exactly

    def __post_init__(self) -> None:
        assert self.codes.ndim == self.scales.ndim == 2
        assert self.scales.dtype == torch.float32
        assert self.codes.dtype in (torch.int8, torch.float8_e4m3fn)
        assert self.groups_of is not None or self.codes.shape[1] % self.scales.shape[1] == 0

    @property
    def out_features(self) -> int:
        """Rows."""
        return self.codes.shape[0]

    @property
    def in_features(self) -> int:
        """Columns."""
        return self.codes.shape[1]

    @property
    def groups(self) -> int:
        """Scales a row."""
        return self.scales.shape[1]

    @property
    def group_size(self) -> int | None:
        """Input channels that share a scale; None if a whole row does."""
        return None if self.groups == 1 else self.in_features // self.groups

    @property
    def type(self) -> CodeType:
        """Type of a code, in words."""
        return "float" if self.codes.dtype.is_floating_point else "int"

    def dequantized(self) -> Tensor:
        """Computes the weight: fp32 [out, in]."""
        if self.groups_of is not None:
            values = self.codes.to(torch.float32)
            if self.zeros is not None:
                values = values - self.zeros[:, self.groups_of]
            return values * self.scales[:, self.groups_of]
        values = self.codes.to(torch.float32).reshape(len(self.codes), self.groups, -1)
        if self.zeros is not None:
            values = values - self.zeros[:, :, None]
        scaled: Tensor = values * self.scales[:, :, None]
        return scaled.flatten(1)

    def upright(self) -> "QuantizedWeight":
        """Turns groups of a negative scale around, which AutoRound writes of symmetric ones: the same weight, exactly.

        (q - z) * s = (~q - ~z) * -s, where ~q = -1 - q is on the grid of q.
        """
        negative = self.scales < 0
        if not bool(negative.any()):
            return self
        groups_of = self.groups_of
        if groups_of is None:
            groups_of = torch.arange(self.in_features) // (self.in_features // self.groups)
        zeros = torch.zeros_like(self.scales, dtype=torch.int8) if self.zeros is None else self.zeros
        return replace(
            self,
            codes=torch.where(negative[:, groups_of], ~self.codes, self.codes),
            scales=self.scales.abs(),
            zeros=torch.where(negative, ~zeros, zeros),
        )

    def rows(self, index: Tensor) -> "QuantizedWeight":
        """Takes some rows of the matrix."""
        return replace(
            self,
            codes=self.codes[index],
            scales=self.scales if len(self.scales) == 1 else self.scales[index],
            zeros=None if self.zeros is None else self.zeros[index],
        )

    def columns(self, order: Tensor) -> "QuantizedWeight | None":
        """Takes all columns in another order [in], in shorter groups where it parts those there are.

        None where groups would be shorter than any kernel takes.
        """
        codes = self.codes[:, order]
        if self.groups_of is not None:
            return replace(self, codes=codes, groups_of=self.groups_of[order])
        if self.groups == 1:
            return replace(self, codes=codes)
        size = whole = self.in_features // self.groups
        while (blocks := whole_blocks(order, size)) is None:
            if size % 2 or size // 2 < _LEAST_GROUP:
                return None
            size //= 2
        groups = blocks // (whole // size)
        zeros = None if self.zeros is None else self.zeros[:, groups]
        return replace(self, codes=codes, scales=self.scales[:, groups], zeros=zeros)

    def sorted_by_group(self) -> tuple["QuantizedWeight", Tensor] | None:
        """Permutes columns to contiguous groups; gives that matrix, and the permutation [in].

        None where groups differ in length. For W' and p: W x = W' x[p].
        """
        if self.groups_of is None:
            return self, torch.arange(self.in_features)
        sizes = torch.bincount(self.groups_of, minlength=self.groups)
        if bool((sizes != sizes[0]).any()):
            return None
        order = torch.argsort(self.groups_of, stable=True)
        return QuantizedWeight(self.codes[:, order], self.scales, self.zeros, self.bits), order


def whole_blocks(order: Tensor, size: int) -> Tensor | None:
    """Reads an order of places as one of blocks of `size` places: [blocks] int64; None where it parts one."""
    if len(order) % size:
        return None
    blocks = order.reshape(-1, size)
    first = blocks[:, :1]
    moved_whole = bool((first % size == 0).all()) and torch.equal(blocks, first + torch.arange(size))
    return first[:, 0] // size if moved_whole else None
