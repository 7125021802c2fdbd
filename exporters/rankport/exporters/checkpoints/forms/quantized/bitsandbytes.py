"""Checkpoints of bitsandbytes in 4 bits, as QLoRA's bases are: read as the weights that their codes stand for.

W = quant_map[code] * absmax[block], row after row, two codes a byte, the high bits first; with double quantization
absmax = nested_quant_map[code] * nested_absmax[block] + nested_offset (bitsandbytes/functional.py, 0.50, and arXiv
2305.14314, section 3). The 16 values are no grid of equal steps, which the low-bit products of a graph need.
"""

import json
from typing import Any

import torch
from torch import Tensor

from rankport.exporters.checkpoints.forms.fill import require_finite
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.checkpoints.forms.made_tensors import MadeTensor
from rankport.exporters.checkpoints.forms.quantized.low_bit import FULL_PRECISION, refuse_full_precision
from rankport.exporters.checkpoints.forms.quantized.stands_for import load_in_full
from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors
from rankport.protos.errors import CheckpointError

METHOD = "bitsandbytes"
_FIELD = "quantization_config"
_STATE = ".quant_state.bitsandbytes__"
_FLAT = ("absmax", "quant_map")
_NESTED = ("nested_absmax", "nested_quant_map")
_TYPES = ("nf4", "fp4")


def matches(folder: CheckpointFolder) -> bool:
    """Goes by `quantization_config.quant_method`."""
    return folder.quantization_method == METHOD


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the tensor or field at fault."""
    _require_4bit(folder.raw)
    stored = folder.tensors
    states = {name: _state(stored, name, key) for name, key in _keys(stored).items()}
    if not states:
        refuse_full_precision(
            folder, f"config.json says quant_method {METHOD!r}", f"tensor named '...{_STATE}nf4'"
        )
    types = "+".join(sorted({str(state["quant_type"]) for state in states.values()}))
    meant = {name: _matrix(stored, name, state) for name, state in states.items()}
    return load_in_full(
        folder, head, meant, f"{len(meant)} weight matrices are stored in bitsandbytes' {types}"
    )


def _require_4bit(raw: dict[str, Any]) -> None:
    """Raises CheckpointError for a config of 8 bits."""
    if raw[_FIELD].get("load_in_8bit"):
        raise CheckpointError(
            f"config.json: {_FIELD}.load_in_8bit is true: bitsandbytes' 8 bits keep the loud columns of each pass out "
            f"of the rounding, so a text's answer depends on those beside it: {FULL_PRECISION}"
        )


def _keys(stored: StoredTensors) -> dict[str, str]:
    """Names of weights in 4 bits, and of the states beside them."""
    return {key.partition(_STATE)[0]: key for key in stored if _STATE in key}


def _state(stored: StoredTensors, name: str, key: str) -> dict[str, Any]:
    """Reads the state of a weight. Raises CheckpointError naming what of it is not known."""
    if name not in stored:
        raise CheckpointError(f"the checkpoint holds {key!r}, and no tensor {name!r}: copy it again")
    try:
        state = json.loads(bytes(stored.read(key).tolist()))
        shape = [int(size) for size in state["shape"]]
        sizes = (state["blocksize"], state.get("nested_blocksize", 1))
        sound = len(shape) == 2 and all(type(size) is int and size > 0 for size in (*shape, *sizes))
        sound = sound and state["quant_type"] in _TYPES
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise CheckpointError(
            f"tensor {key!r} is no state of bitsandbytes ({error!r}): copy it again"
        ) from error
    if not sound or ("nested_blocksize" in state and not isinstance(state.get("nested_offset"), float)):
        raise CheckpointError(
            f"tensor {key!r} says {state}, which bitsandbytes' {' or '.join(_TYPES)} are not"
        )
    return state  # type: ignore[no-any-return]


def _matrix(stored: StoredTensors, name: str, state: dict[str, Any]) -> MadeTensor:
    parts = (
        *(f"{name}.{part}" for part in (*_FLAT, *_NESTED)),
        *(key for key in stored if key.startswith(f"{name}{_STATE}")),
    )
    return MadeTensor(tuple(state["shape"]), (name, *parts), lambda: _dequantized(stored, name, state))


def _dequantized(stored: StoredTensors, name: str, state: dict[str, Any]) -> Tensor:
    size, block = torch.Size(state["shape"]).numel(), state["blocksize"]
    octets = stored.read(name).contiguous().view(torch.uint8).flatten()
    if len(octets) != -(-size // 2):
        raise CheckpointError(
            f"tensor {name!r} holds {len(octets)} bytes, and its state says {size} codes of 4 bits: copy the "
            "checkpoint again"
        )
    codes = torch.stack((octets >> 4, octets & 0xF), dim=-1).flatten()[:size].to(torch.int64)
    scales = _scales(stored, name, state, -(-size // block)).repeat_interleave(block)[:size]
    values: Tensor = _part(stored, name, "quant_map", 16)[codes] * scales
    matrix: Tensor = values.reshape(state["shape"])
    return matrix


def _scales(stored: StoredTensors, name: str, state: dict[str, Any], blocks: int) -> Tensor:
    """Reads absmax fp32 [blocks]."""
    if "nested_blocksize" not in state:
        return _part(stored, name, "absmax", blocks)
    codes = _part(stored, name, "absmax", blocks, torch.uint8).to(torch.int64)
    block = state["nested_blocksize"]
    above = _part(stored, name, "nested_absmax", -(-blocks // block)).repeat_interleave(block)[:blocks]
    scales: Tensor = _part(stored, name, "nested_quant_map", 256)[codes] * above + state["nested_offset"]
    return scales


def _part(
    stored: StoredTensors, name: str, part: str, length: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    whole = f"{name}.{part}"
    if whole not in stored:
        raise CheckpointError(f"the checkpoint lacks tensor {whole!r}, a part of {name!r}: copy it again")
    found = (stored.shape(whole), stored.dtype(whole))
    if found != ((length,), dtype):
        raise CheckpointError(
            f"tensor {whole!r} is {found[1]} of shape {list(found[0])}, expected is {dtype} of [{length}]: save the "
            "checkpoint before a run on a CPU, which packs weights for that CPU"
        )
    tensor = stored.read(whole)
    require_finite(whole, tensor)
    return tensor
