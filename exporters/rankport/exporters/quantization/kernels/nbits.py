"""com.microsoft MatMulNBits: 4- and 8-bit weights in blocks, against float or int8 activations."""

import torch
from torch import Tensor, nn

from rankport.exporters.quantization.activation import Activation
from rankport.exporters.quantization.weight import QuantizedWeight

_BLOCKS = (16, 32, 64, 128, 256)
_FP32, _INT8 = 1, 4
"""Values of the operator's accuracy_level: what the activations are rounded to."""


class NBitsKernel(nn.Module):
    """x [..., in] fp32 -> [..., out] fp32."""

    packed: Tensor  # [out, blocks, block * bits / 8] uint8
    scales: Tensor  # [out, blocks] fp32
    # [out, blocks * bits / 8] uint8, or [out, blocks] fp32 where one is off the codes' grid
    zeros: Tensor | None
    order: Tensor | None  # [in] int64, where groups are not contiguous

    def __init__(self, weight: QuantizedWeight, activation: Activation | None) -> None:
        """Call only where `fits`."""
        super().__init__()
        contiguous = weight.sorted_by_group()
        assert contiguous is not None
        ordered, order = contiguous
        self.block = _block(ordered)
        self.bits = weight.bits
        self.level = _FP32 if activation is None else _INT8
        self.in_features, self.out_features = weight.in_features, weight.out_features
        self.register_buffer("order", None if weight.groups_of is None else order, persistent=False)
        self.register_buffer("packed", _packed(ordered, self.block), persistent=False)
        self.register_buffer("scales", _a_block(ordered.scales, ordered, self.block), persistent=False)
        zeros = None if ordered.zeros is None else _a_block(ordered.zeros, ordered, self.block)
        self.register_buffer("zeros", None if zeros is None else _zeros(zeros, self.bits), persistent=False)

    @staticmethod
    def fits(weight: QuantizedWeight, activation: Activation | None, *, off_grid: bool = False) -> bool:
        """Blocks of a size that the operator has, and activations that it can round.

        `off_grid`: zero points outside the grid of the codes too, which are then floats and slow on a CPU.
        """
        ordered = weight.sorted_by_group()
        if weight.type != "int" or ordered is None or _block(ordered[0]) == 0:
            return False
        if weight.zeros is not None and not off_grid and not _on_grid(weight.zeros, weight.bits):
            return False
        return activation is None or (
            activation.kind == "int8-block" and activation.block == _block(ordered[0])
        )

    def forward(self, x: Tensor) -> Tensor:
        """Emits the operator."""
        if self.order is not None:
            x = x.index_select(-1, self.order)
        inputs: list[Tensor | None] = [
            x,
            self.packed,
            self.scales,
            *([] if self.zeros is None else [self.zeros]),
        ]
        return torch.onnx.ops.symbolic(
            "com.microsoft::MatMulNBits",
            inputs,
            {
                "K": self.in_features,
                "N": self.out_features,
                "bits": self.bits,
                "block_size": self.block,
                "accuracy_level": self.level,
            },
            dtype=torch.float32,
            shape=(*x.shape[:-1], self.out_features),
            version=1,
        )


class NBitsTable(nn.Module):
    """ids [...] int64 -> fp32 [..., in]: rows of an 8-bit matrix, stored once as its product takes them."""

    packed: Tensor  # as `NBitsKernel`
    scales: Tensor

    def __init__(self, weight: QuantizedWeight) -> None:
        """Call only where `fits`."""
        super().__init__()
        self.width = weight.in_features
        block = _block(weight)
        self.register_buffer("packed", _packed(weight, block), persistent=False)
        self.register_buffer("scales", _a_block(weight.scales, weight, block), persistent=False)

    @staticmethod
    def fits(weight: QuantizedWeight) -> bool:
        """Tells symmetric 8-bit codes in blocks, which no permutation lies over."""
        symmetric = weight.zeros is None and weight.groups_of is None
        return symmetric and weight.bits == 8 and NBitsKernel.fits(weight, None)

    def forward(self, ids: Tensor) -> Tensor:
        """Reads whole rows by operators of the standard."""
        flat = ids.flatten()
        codes = self.packed.index_select(0, flat).to(torch.float32) - 128.0
        rows: Tensor = codes * self.scales.index_select(0, flat)[:, :, None]
        return rows.reshape(*ids.shape, self.width)


def _block(weight: QuantizedWeight) -> int:
    """Finds the operator's largest block that divides a group or, for one scale a row, the row; 0 if none does."""
    size = weight.group_size or weight.in_features
    return next((block for block in reversed(_BLOCKS) if size % block == 0), 0)


def _a_block(values: Tensor, weight: QuantizedWeight, block: int) -> Tensor:
    """[rows, groups] -> [out, blocks]"""
    per_row = values.expand(weight.out_features, -1)
    return per_row.repeat_interleave(weight.in_features // block // weight.groups, dim=1).contiguous()


def packed_codes(codes: Tensor, bits: int) -> Tensor:
    """Packs codes on a signed grid [..., n] as unsigned ones: uint8 [..., n * bits / 8]."""
    unsigned: Tensor = (codes.to(torch.int16) + 2 ** (bits - 1)).to(torch.uint8)
    return _paired(unsigned) if bits == 4 else unsigned


def _packed(weight: QuantizedWeight, block: int) -> Tensor:
    return packed_codes(weight.codes.reshape(weight.out_features, -1, block), weight.bits)


def _on_grid(zeros: Tensor, bits: int) -> bool:
    """Tells whether zero points are on the grid: symmetric GPTQ's old offset can be off it."""
    edge, wide = 2 ** (bits - 1), zeros.to(torch.int16)  # in int8 an edge of 128 would be -128
    return bool(((wide >= -edge) & (wide < edge)).all())


def _zeros(zeros: Tensor, bits: int) -> Tensor:
    if not _on_grid(zeros, bits):
        shifted: Tensor = zeros.to(torch.float32) + 2 ** (bits - 1)
        return shifted
    unsigned: Tensor = (zeros.to(torch.int16) + 2 ** (bits - 1)).to(torch.uint8)
    if bits == 8:
        return unsigned
    return _paired(nn.functional.pad(unsigned, (0, unsigned.shape[1] % 2)))


def _paired(values: Tensor) -> Tensor:
    """Packs two 4-bit values a byte, the first in the lower half."""
    paired: Tensor = values[..., 0::2] | (values[..., 1::2] << 4)
    return paired
