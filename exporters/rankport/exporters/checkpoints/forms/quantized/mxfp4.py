"""Checkpoints whose experts are in MXFP4, as gpt-oss is published: read as the weights that their codes stand for.

W[e, 32 g + i, o] = fp4[code] * 2 ** (scale - 127), with blocks [experts, out, groups, 16] of two codes a byte, the low
bits first, and scales [experts, out, groups] (OCP Microscaling Formats 1.0, section 5, and
transformers/integrations/mxfp4.py, 5.24). Products of a power of two and a value of fp4 are exact in bf16 and fp32.
"""

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.checkpoints.forms.made_tensors import MadeTensor
from rankport.exporters.checkpoints.forms.quantized.low_bit import refuse_full_precision
from rankport.exporters.checkpoints.forms.quantized.packing import powers_of_two, unpack_fp4
from rankport.exporters.checkpoints.forms.quantized.stands_for import load_in_full
from rankport.exporters.checkpoints.forms.quantized.stated import require_known
from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors
from rankport.protos.errors import CheckpointError

METHOD = "mxfp4"
_FIELD = "quantization_config"
_KNOWN = ("quant_method", "modules_to_not_convert", "dequantize")
_BLOCKS, _SCALES = "_blocks", "_scales"
_GROUP = 32


def matches(folder: CheckpointFolder) -> bool:
    """Goes by `quantization_config.quant_method`."""
    return folder.quantization_method == METHOD


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the tensor or field at fault."""
    require_known(folder.raw[_FIELD], _KNOWN)
    stored = folder.tensors
    names = [name.removesuffix(_BLOCKS) for name in stored if name.endswith(_BLOCKS)]
    if not names:
        refuse_full_precision(
            folder, f"config.json says quant_method {METHOD!r}", f"tensor named '...{_BLOCKS}'"
        )
    meant = {name: _experts(stored, name, folder.raw[_FIELD]) for name in names}
    return load_in_full(folder, head, meant, f"{len(meant)} matrices of experts are stored in MXFP4")


def _experts(stored: StoredTensors, name: str, stated: dict[str, Any]) -> MadeTensor:
    """Finds the parts of the experts' matrices [experts, in, out] of a layer."""
    kept = next((part for part in stated.get("modules_to_not_convert") or () if _is_within(name, part)), None)
    if kept is not None:
        raise CheckpointError(
            f"tensor {name + _BLOCKS!r} is stored in MXFP4, and config.json: {_FIELD}.modules_to_not_convert says that "
            f"{kept!r} stays in full precision: copy the checkpoint again"
        )
    blocks, scales = name + _BLOCKS, name + _SCALES
    if scales not in stored:
        raise CheckpointError(f"the checkpoint lacks tensor {scales!r}, a part of {name!r}: copy it again")
    shape = stored.shape(scales)
    if len(shape) != 3 or stored.shape(blocks) != (*shape, _GROUP // 2):
        raise CheckpointError(
            f"tensor {blocks!r} has shape {list(stored.shape(blocks))} and {scales!r} {list(shape)}, expected are "
            f"[experts, out, groups, {_GROUP // 2}] and [experts, out, groups]: copy the checkpoint again"
        )
    for part in (blocks, scales):
        if stored.dtype(part) != torch.uint8:
            raise CheckpointError(f"tensor {part!r} is {stored.dtype(part)}, expected is torch.uint8")
    experts, out, groups = shape
    return MadeTensor(
        (experts, groups * _GROUP, out), (blocks, scales), lambda: _dequantized(stored, blocks, scales)
    )


def _dequantized(stored: StoredTensors, blocks: str, scales: str) -> Tensor:
    """Reads fp32 [experts, in, out], an expert at a time: codes take four bytes each meanwhile."""
    halves = powers_of_two(scales, stored.read(scales)) / 2
    octets = stored.read(blocks)
    experts, out, groups = halves.shape
    matrices = torch.empty(experts, groups * _GROUP, out)
    for expert in range(experts):
        matrices[expert] = (unpack_fp4(octets[expert]) * halves[expert, :, :, None]).reshape(out, -1).T
    return matrices


def _is_within(name: str, part: str) -> bool:
    return fnmatchcase(name, part) or fnmatchcase(name, f"{part}.*")
