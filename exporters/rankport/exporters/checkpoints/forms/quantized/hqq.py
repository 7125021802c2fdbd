"""Checkpoints of HQQ, as transformers 4 saves them: codes, scales and float zero points, and how they are packed.

W = (q - zero) * scale of each group: `group_size` values beside each other in a row where `axis` is 1, as many values
with equal distances through the matrix where it is 0 (hqq/core/quantize.py and bitpack.py, 0.2.8). Zero points are
floats, off the grid that low-bit products have, so weights are read as what they stand for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.checkpoints.forms.made_tensors import MadeTensor
from rankport.exporters.checkpoints.forms.quantized.low_bit import FULL_PRECISION, refuse_full_precision
from rankport.exporters.checkpoints.forms.quantized.stands_for import load_in_full
from rankport.exporters.checkpoints.forms.quantized.stated import require_known
from rankport.exporters.checkpoints.forms.quantized.stored_parts import read_tensor
from rankport.protos.errors import CheckpointError

METHOD = "hqq"
_FIELD = "quantization_config"
_KNOWN = ("quant_method", "quant_config", "skip_modules")
_CODES = ".W_q"
_READ = ("nbits", "group_size", "shape", "scale", "zero", "axis", "packing", "view_as_float")
_REFUSED = ("quant_scale", "quant_zero")  # which the library itself cannot save any more
_HOW = ("channel_wise", "optimize", "round_zero")  # how codes were found
_OF_THE_LIBRARY = (
    "compute_dtype",
    "unpack_view_dtype",
    "offload_meta",
    "encoded_state_dict",
    "stores_quant_config",
)
_PARTS = (*_READ, *_REFUSED, *_HOW, *_OF_THE_LIBRARY)
_PACKINGS: Mapping[str, tuple[int, int, torch.dtype]] = MappingProxyType(
    {
        "8bit_u8": (8, 1, torch.uint8),
        "4bit_u8": (4, 2, torch.uint8),
        "3bit_32": (3, 10, torch.int32),
        "2bit_u8": (2, 4, torch.uint8),
        "1bit_u8": (1, 8, torch.uint8),
    }
)
"""Packing -> bits a code, codes a word, the word. The first codes of all lie in the highest bits of the words."""
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class HqqWeight:
    """Weight of one layer as it is stored."""

    layer: str
    shape: tuple[int, int]  # [out, in]
    bits: float  # 1.58: three values in 2 bits
    group_size: int
    axis: int
    packing: str
    parts: tuple[str, ...]

    @property
    def grouped(self) -> tuple[int, int]:
        """Shape of the codes as they are packed: [groups, group_size], or [group_size, groups] along axis 0."""
        groups = self.shape[0] * self.shape[1] // self.group_size
        return (groups, self.group_size) if self.axis == 1 else (self.group_size, groups)


def matches(folder: CheckpointFolder) -> bool:
    """Goes by `quantization_config.quant_method`."""
    return folder.quantization_method == METHOD


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the tensor or field at fault."""
    stated = folder.raw[_FIELD]
    require_known(stated, _KNOWN)
    for key, kind, word in (("quant_config", dict, "an object"), ("skip_modules", list, "a list of names")):
        if not isinstance(stated.get(key), kind | None):
            raise CheckpointError(f"config.json: {_FIELD}.{key} is {stated[key]!r:.60}, must be {word}")
    layers = [name.removesuffix(_CODES) for name in folder.tensors.names if name.endswith(_CODES)]
    if not layers:
        refuse_full_precision(
            folder, f"config.json says quant_method {METHOD!r}", f"tensor named '...{_CODES}'"
        )
    weights = [_read_weight(folder, layer) for layer in layers]
    for weight in weights:
        _require_stated(stated, weight)
    meant = {
        f"{weight.layer}.weight": MadeTensor(
            weight.shape, weight.parts, partial(_dequantized, folder, weight)
        )
        for weight in weights
    }
    bits = "+".join(f"{bits:g}" for bits in sorted({weight.bits for weight in weights}))
    return load_in_full(folder, head, meant, f"{len(meant)} weight matrices are stored in HQQ's {bits} bits")


def _read_weight(folder: CheckpointFolder, layer: str) -> HqqWeight:
    def number(part: str) -> float:
        tensor = read_tensor(folder, f"{layer}.{part}")
        if tensor.numel() != 1:
            raise CheckpointError(
                f"tensor '{layer}.{part}' has shape {list(tensor.shape)}, must hold one number"
            )
        return round(tensor.item(), 2)

    for part in _REFUSED:
        if f"{layer}.{part}" in folder.tensors and number(part):
            raise CheckpointError(
                f"layer {layer!r} is stored with {part}, which is not read: {FULL_PRECISION}"
            )
    if f"{layer}.channel_wise" in folder.tensors and not number("channel_wise"):
        raise CheckpointError(
            f"layer {layer!r} has one scale for all of it, which is not read: {FULL_PRECISION}"
        )
    packing = "".join(
        map(chr, read_tensor(folder, f"{layer}.packing", dtypes=(torch.uint8,)).flatten().tolist())
    )
    if packing not in _PACKINGS:
        raise CheckpointError(
            f"tensor '{layer}.packing' says {packing!r}, supported are {', '.join(_PACKINGS)}: {FULL_PRECISION}"
        )
    out, columns = map(int, read_tensor(folder, f"{layer}.shape", (2,)).tolist())
    axis, size = int(number("axis")), int(number("group_size"))
    if axis not in (0, 1) or size < 1 or out < 1 or columns < 1 or out * columns % size:
        raise CheckpointError(
            f"layer {layer!r} says shape [{out}, {columns}], group_size {size} and axis {axis}, which do not fit: copy "
            "the checkpoint again"
        )
    parts = tuple(f"{layer}.{part}" for part in _PARTS if f"{layer}.{part}" in folder.tensors)
    return HqqWeight(
        layer, (out, columns), number("nbits"), size, axis, packing, (f"{layer}{_CODES}", *parts)
    )


def _require_stated(stated: Mapping[str, Any], weight: HqqWeight) -> None:
    """Requires config.json to say of a layer what is stored beside its codes. Raises CheckpointError."""
    tag = ".".join(
        part for part in weight.layer.split(".") if part not in ("model", "layers") and not part.isnumeric()
    )
    if tag in (stated.get("skip_modules") or ()):
        raise CheckpointError(
            f"layer {weight.layer!r} is stored in codes, and config.json: {_FIELD}.skip_modules leaves {tag!r} in full "
            "precision: copy the checkpoint again"
        )
    config = stated.get("quant_config") or {}
    own = config.get(tag) or config
    said = (own.get("weight_quant_params") if isinstance(own, dict) else None) or {}
    if not isinstance(own, dict) or not isinstance(said, dict):
        raise CheckpointError(
            f"config.json: {_FIELD}.quant_config of {tag!r} is {own!r:.60}, must be an object of objects"
        )
    for key, stored in (("nbits", weight.bits), ("axis", weight.axis), ("group_size", weight.group_size)):
        if said.get(key) is not None and said[key] != stored:
            raise CheckpointError(
                f"config.json: {_FIELD}.quant_config says {key} {said[key]!r}, tensor '{weight.layer}.{key}' "
                f"{stored:g}: copy the checkpoint again"
            )


def _dequantized(folder: CheckpointFolder, weight: HqqWeight) -> Tensor:
    """Computes (q - zero) * scale: fp32 [out, in]."""
    rows, columns = weight.grouped
    along = (rows, 1) if weight.axis == 1 else (1, columns)
    scale, zero = (
        read_tensor(folder, f"{weight.layer}.{part}", along, _FLOATS).to(torch.float32)
        for part in ("scale", "zero")
    )
    matrix: Tensor = (_codes(folder, weight) - zero) * scale
    return matrix.reshape(weight.shape)


def _codes(folder: CheckpointFolder, weight: HqqWeight) -> Tensor:
    """Unpacks codes: fp32 of the shape `grouped`."""
    bits, codes_a_word, word = _PACKINGS[weight.packing]
    rows, columns = weight.grouped
    name, words = f"{weight.layer}{_CODES}", -(-rows // codes_a_word)
    packed = folder.tensors.read(name).contiguous().view(word)  # floats too, of `view_as_float`
    if packed.shape != (words, columns):
        raise CheckpointError(
            f"tensor {name!r} holds words of shape {list(packed.shape)}, {weight.packing} of its group_size and axis "
            f"is [{words}, {columns}]: copy the checkpoint again"
        )
    shifts = [bits * place for place in reversed(range(codes_a_word))]
    codes = torch.cat([(packed >> shift) & ((1 << bits) - 1) for shift in shifts])
    return codes[:rows].to(torch.float32)
