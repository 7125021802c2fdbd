"""Checkpoints of bitsandbytes in 4 bits, as QLoRA's bases are: read as the weights that their codes stand for.

W = quant_map[code] * absmax[block], row after row, two codes a byte, the high bits first; with double quantization
absmax = nested_quant_map[code] * nested_absmax[block] + nested_offset (bitsandbytes/functional.py, 0.50, and arXiv
2305.14314, section 3). The 16 values are no grid of equal steps, which the low-bit products of a graph need.
"""

import dataclasses
import json
from typing import Any

import torch
from torch import Tensor

from rankport.exporters.checkpoints.forms.fill import fill, require_finite
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel, parse_config
from rankport.exporters.checkpoints.forms.pruning import pruned
from rankport.exporters.checkpoints.forms.quantized.low_bit import FULL_PRECISION, refuse_full_precision
from rankport.exporters.checkpoints.forms.skeleton import skeleton
from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors
from rankport.protos.errors import CheckpointError

METHOD = "bitsandbytes"
_FIELD = "quantization_config"
_STATE = ".quant_state.bitsandbytes__"
_FLAT = ("absmax", "quant_map")
_NESTED = ("nested_absmax", "nested_quant_map")
_TYPES = ("nf4", "fp4")


class _FourBits(StoredTensors):
    """The stored tensors, with each weight of 4 bits as the matrix that it stands for."""

    def __init__(self, stored: StoredTensors) -> None:
        """Raises CheckpointError naming a weight whose state cannot be read."""
        super().__init__(())
        self.files = stored.files
        self._stored = stored
        self._states = {name: _state(stored, name, key) for name, key in _keys(stored).items()}
        parts = {f"{name}.{part}" for name in self._states for part in (*_FLAT, *_NESTED)}
        parts |= {key for key in stored if _STATE in key}
        names = [name for name in stored if name not in parts]
        self._shapes = {name: self._shape(name) for name in names}
        self._dtypes = {name: "F32" if name in self._states else stored._dtypes[name] for name in names}

    @property
    def count(self) -> int:
        """Matrices of 4 bits."""
        return len(self._states)

    @property
    def types(self) -> str:
        """Names what their codes stand for."""
        return "+".join(sorted({str(state["quant_type"]) for state in self._states.values()}))

    def read(self, name: str) -> Tensor:
        """Reads a tensor as stored, or the matrix fp32 that it stands for. Raises CheckpointError."""
        state = self._states.get(name)
        return self._stored.read(name) if state is None else self._dequantized(name, state)

    def _shape(self, name: str) -> tuple[int, ...]:
        state = self._states.get(name)
        return self._stored.shape(name) if state is None else tuple(state["shape"])

    def _dequantized(self, name: str, state: dict[str, Any]) -> Tensor:
        size, block = torch.Size(state["shape"]).numel(), state["blocksize"]
        octets = self._stored.read(name).contiguous().view(torch.uint8).flatten()
        if len(octets) != -(-size // 2):
            raise CheckpointError(
                f"tensor {name!r} holds {len(octets)} bytes, and its state says {size} codes of 4 bits: copy the "
                "checkpoint again"
            )
        codes = torch.stack((octets >> 4, octets & 0xF), dim=-1).flatten()[:size].to(torch.int64)
        scales = self._scales(name, state, -(-size // block)).repeat_interleave(block)[:size]
        values: Tensor = self._part(name, "quant_map", 16)[codes] * scales
        matrix: Tensor = values.reshape(state["shape"])
        return matrix

    def _scales(self, name: str, state: dict[str, Any], blocks: int) -> Tensor:
        """Reads absmax fp32 [blocks]."""
        if "nested_blocksize" not in state:
            return self._part(name, "absmax", blocks)
        codes = self._part(name, "absmax", blocks, torch.uint8).to(torch.int64)
        block = state["nested_blocksize"]
        above = self._part(name, "nested_absmax", -(-blocks // block)).repeat_interleave(block)[:blocks]
        scales: Tensor = self._part(name, "nested_quant_map", 256)[codes] * above + state["nested_offset"]
        return scales

    def _part(self, name: str, part: str, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        stored = f"{name}.{part}"
        if stored not in self._stored:
            raise CheckpointError(
                f"the checkpoint lacks tensor {stored!r}, a part of {name!r}: copy it again"
            )
        found = (self._stored.shape(stored), self._stored.dtype(stored))
        if found != ((length,), dtype):
            raise CheckpointError(
                f"tensor {stored!r} is {found[1]} of shape {list(found[0])}, expected is {dtype} of [{length}]: save "
                "the checkpoint before a run on a CPU, which packs weights for that CPU"
            )
        tensor = self._stored.read(stored)
        require_finite(stored, tensor)
        return tensor


def matches(folder: CheckpointFolder) -> bool:
    """Goes by `quantization_config.quant_method`."""
    return folder.quantization_method == METHOD


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the tensor or field at fault."""
    require_4bit(folder.raw)
    tensors = _FourBits(folder.tensors)
    if not tensors.count:
        refuse_full_precision(
            folder, f"config.json says quant_method {METHOD!r}", f"tensor named '...{_STATE}nf4'"
        )
    whole = dataclasses.replace(
        folder, tensors=tensors, raw={key: value for key, value in folder.raw.items() if key != _FIELD}
    )
    loaded = pruned.load(whole, head) or LoadedModel(fill(skeleton(parse_config(whole), head), whole, head))
    note = (
        f"{tensors.count} weight matrices are stored in bitsandbytes' {tensors.types}, and read as the full precision "
        "that they stand for: --quantize has them in low bits again"
    )
    return dataclasses.replace(loaded, notes=(*loaded.notes, note))


def require_4bit(raw: dict[str, Any]) -> None:
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
