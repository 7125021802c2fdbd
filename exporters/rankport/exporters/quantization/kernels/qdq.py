"""Q/DQ form: standard ONNX operators alone, with the low-bit types written into the graph, as TensorRT reads them.

TensorRT takes the precision of a product from the graph. What it takes was found by parsing and building with
TensorRT-RTX 1.7.1 for SM89:

    weights      DequantizeLinear of an initializer: int4, int8 or float8, one scale a channel or a block of channels.
                 Plans keep all of these in low bits, but for the smallest matrices. Refused: zero points other than
                 0, UINT4, blocks of one value.
    activations  QuantizeLinear, DequantizeLinear with one constant scale. Refused: a scale computed for each token, a
                 Cast to float8. Such a pair right before a product with blocks, or with a constant factor between,
                 parses and fails to build.
    tables       DequantizeLinear, then Gather. Refused: Gather of the codes.

Hence the rewritings here, all of them exact:

    zero points       x (q - z) s = x (q s) - (x E) (z s), where E [in, groups] sums the channels of a group
    scales of tokens  round(x / a) a W = (round(x / a) u W) (a / u): a pair of scale u around the product's input, a / u
                      comes last
    fixed scales      round(x / a) a W = (round(x / a) p) (W a / p): a pair of scale p, the power of two next to a
    unequal groups    are filled up to the longest with codes of 0

Powers of two lose nothing in any precision, and are taken so that half precision holds the products: u makes the
largest code 1 or less, p leaves products as large as they come out.
"""

import math
from typing import Literal

import onnx_ir as ir
import torch
from torch import Tensor, nn

from rankport.exporters.graphs.passes.low_bit_types import DEQUANTIZE_INT4
from rankport.exporters.quantization.activation import FP8_MAX, Activation, joined
from rankport.exporters.quantization.weight import QuantizedWeight

_VERSION = 21
"""Version of the operators: the first with blocks and 4-bit types."""
_GRIDS: dict[Literal["int8", "fp8"], tuple[torch.dtype, ir.DataType]] = {
    "int8": (torch.int8, ir.DataType.INT8),
    "fp8": (torch.float8_e4m3fn, ir.DataType.FLOAT8E4M3FN),
}
_UNITS: dict[Literal["int8", "fp8"], float] = {"int8": 2.0**-7, "fp8": 2.0**-9}
"""Scales of pairs whose own scale is a token's: the power of two that makes the largest code 1 or less."""


class QdqKernel(nn.Module):
    """x [..., in] fp32 -> [..., out] fp32. Computes any weight and activation."""

    codes: Tensor  # [channels, out] int8 or float8; channels: in, or more where groups were filled up
    scales: Tensor  # [groups, out], or [out]
    zeros: Tensor | None  # as the scales, int8
    members: Tensor | None  # [channels, groups] fp32, 1 where a channel is of a group; with zeros only
    order: Tensor | None  # [channels] int64, where groups are not contiguous
    one: Tensor
    pair: Tensor  # scale of the pair around the product's input

    def __init__(self, weight: QuantizedWeight, activation: Activation | None) -> None:
        super().__init__()
        self.activation = activation
        pair, rest = _split_scale(activation)
        channels, order = _channels(weight)
        codes = weight.codes
        if order is not None:
            codes = codes[:, order]
            codes[:, channels < 0] = 0
        self.groups, self.bits = weight.groups, weight.bits
        self.shared_grid = _share_a_grid(weight, activation)
        scales = (weight.scales * rest).expand(weight.out_features, -1).T.contiguous()
        zeros = None if weight.zeros is None else weight.zeros.T.contiguous()
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("codes", codes.T.contiguous(), persistent=False)
        self.register_buffer("scales", scales if self.groups > 1 else scales[0], persistent=False)
        self.register_buffer(
            "zeros", zeros if zeros is None or self.groups > 1 else zeros[0], persistent=False
        )
        members = (channels[:, None] == torch.arange(self.groups)).to(torch.float32)
        self.register_buffer("members", None if zeros is None else members, persistent=False)
        self.register_buffer("one", torch.tensor(1.0), persistent=False)
        self.register_buffer("pair", torch.tensor(pair), persistent=False)
        self.rest, self.below = rest, -FP8_MAX * pair

    def forward(self, x: Tensor) -> Tensor:
        """Emits the operators."""
        x, last = self._rounded(x)
        if self.order is not None:
            x = x.index_select(-1, self.order)
        product = x @ self._weight()
        if self.zeros is not None:
            assert self.members is not None
            offsets = _dequantize(self.zeros, self.one) * self.scales
            product = product - (x @ self.members) @ offsets.reshape(self.groups, -1)
        return product if last is None else product * last

    def _weight(self) -> Tensor:
        blocks = {"axis": 0, "block_size": self.codes.shape[0] // self.groups}
        where = blocks if self.groups > 1 else {"axis": 1}
        return _dequantize(self.codes, self.scales, where, DEQUANTIZE_INT4 if self.bits == 4 else None)

    def _rounded(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rounds the product's input; gives it, and what is left to multiply the product with. [..., in], [..., 1]"""
        activation = self.activation
        if activation is None:
            return x, None
        if activation.kind == "int8-block":
            return activation.rounded(x), None
        if activation.block is not None:
            blocks = activation.blocks(x)
            units = activation.scales(blocks) / self.pair
            return joined(self._on_grid(blocks / units) * units, x.shape[-1]), None
        if activation.scale is not None:
            rounded = self._on_grid(x / self.rest)
            # Below every code, so it changes nothing, but it keeps the pair and the product apart: see above.
            return rounded if self.shared_grid else rounded.clamp(min=self.below), None
        units = activation.scales(x) / self.pair
        codes = self._on_grid(x / units)
        return (codes, units) if self.shared_grid else (codes * units, None)

    def _on_grid(self, x: Tensor) -> Tensor:
        assert self.activation is not None
        dtype, stored = _GRIDS[_grid_of(self.activation)]
        codes = torch.onnx.ops.symbolic(
            "QuantizeLinear",
            [x, self.pair],
            {"output_dtype": int(stored)},
            dtype=dtype,
            shape=x.shape,
            version=_VERSION,
        )
        return _dequantize(codes, self.pair)


class QdqTable(nn.Module):
    """Rows of a table of int8 with a scale each: ids [...] int64 -> fp32 [..., dim].

    Runtimes without a kernel for the pair, as ONNX Runtime on the CPU, dequantize the whole table in every pass.
    """

    codes: Tensor  # [rows, dim] int8
    scales: Tensor  # [rows] fp32

    def __init__(self, codes: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", scales, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Emits the operators."""
        return nn.functional.embedding(ids, _dequantize(self.codes, self.scales, {"axis": 0}))


def _dequantize(
    codes: Tensor, scales: Tensor, where: dict[str, int] | None = None, operator: str | None = None
) -> Tensor:
    return torch.onnx.ops.symbolic(
        operator or "DequantizeLinear",
        [codes, scales],
        {**where} if where else {},
        dtype=torch.float32,
        shape=codes.shape,
        version=1 if operator else _VERSION,
    )


def _grid_of(activation: Activation) -> Literal["int8", "fp8"]:
    return "fp8" if activation.kind.startswith("fp8") else "int8"


def _split_scale(activation: Activation | None) -> tuple[float, float]:
    """Gives the scale of the pair, and what of a fixed scale is left over for the weight: 1 if it is a token's."""
    if activation is None or activation.scale is None:
        return (1.0 if activation is None else _UNITS[_grid_of(activation)]), 1.0
    pair = 2.0 ** round(math.log2(activation.scale))
    return pair, activation.scale / pair


def _share_a_grid(weight: QuantizedWeight, activation: Activation | None) -> bool:
    """Tells whether both sides of the product are of one low-bit type, so that a low-bit product can compute it."""
    if activation is None or weight.groups > 1 or weight.zeros is not None or weight.bits != 8:
        return False
    return (_grid_of(activation) == "fp8") == (weight.type == "float")


def _channels(weight: QuantizedWeight) -> tuple[Tensor, Tensor | None]:
    """Gives the group of each channel in the codes' order, -1 where one was filled in, and that order (None: as is)."""
    if weight.groups_of is None:
        return torch.arange(weight.groups).repeat_interleave(weight.in_features // weight.groups), None
    members = [(weight.groups_of == group).nonzero()[:, 0] for group in range(weight.groups)]
    longest = max(len(member) for member in members)
    fill = [nn.functional.pad(member, (0, longest - len(member))) for member in members]
    places = torch.arange(longest)
    groups = [
        torch.where(places < len(member), group, torch.tensor(-1)) for group, member in enumerate(members)
    ]
    return torch.cat(groups), torch.cat(fill)
