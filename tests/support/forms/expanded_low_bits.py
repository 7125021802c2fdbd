"""Expanded checkpoints whose layers are in compressed-tensors' low bits, beside what their codes stand for."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from safetensors.torch import load_file, save_file
from torch import Tensor

_WEIGHTS = "model.safetensors"
_GROUP = 16
INT8_INPUTS: dict[str, Any] = {
    "num_bits": 8,
    "type": "int",
    "strategy": "token",
    "symmetric": True,
    "dynamic": True,
}


def low_bits_of(
    whole: Path, folder: Path, *, left: str = "lm_head", rounded: bool = False
) -> tuple[Path, Path]:
    """Quantizes each linear layer whose name `left` does not match: 4 bits in groups, or 8 with rounded inputs.

    Gives that folder, and one of the weights that its codes stand for.
    """
    stored: dict[str, Tensor] = {}
    meant: dict[str, Tensor] = {}
    for name, tensor in load_file(whole / _WEIGHTS).items():
        is_linear = name.endswith(".weight") and tensor.ndim == 2 and "embed_tokens" not in name
        if not is_linear or re.search(left, name):
            stored[name] = meant[name] = tensor
            continue
        parts, weight = _in_8_bits(tensor) if rounded else _in_4_bits(tensor)
        stored |= {f"{name.removesuffix('weight')}{part}": value for part, value in parts.items()}
        meant[name] = weight.contiguous()
    scheme = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}
    grouped = scheme | {"num_bits": 4, "strategy": "group", "group_size": _GROUP}
    group = {"targets": ["Linear"], "weights": scheme if rounded else grouped}
    stated = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized" if rounded else "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group | ({"input_activations": INT8_INPUTS} if rounded else {})},
        "ignore": [f"re:.*({left}).*"],
    }
    low = _copied(whole, folder / "low", stored, {"quantization_config": stated})
    return low, _copied(whole, folder / "meant", meant, {})


def _in_4_bits(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    grouped = weight.unflatten(1, (-1, _GROUP))
    scales = grouped.abs().amax(-1) / 7
    codes = (grouped / scales[..., None]).round().clamp(-8, 7)
    packed = pack_to_int32(codes.flatten(1).to(torch.int8), 4)
    parts = {"weight_packed": packed, "weight_scale": scales, "weight_shape": torch.tensor(weight.shape)}
    return parts, (codes * scales[..., None]).flatten(1)


def _in_8_bits(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    scales = weight.abs().amax(-1, keepdim=True) / 127
    codes = (weight / scales).round().clamp(-128, 127)
    return {"weight": codes.to(torch.int8), "weight_scale": scales}, codes * scales


def _copied(whole: Path, folder: Path, tensors: dict[str, Tensor], fields: dict[str, Any]) -> Path:
    shutil.copytree(whole, folder)
    save_file(tensors, folder / _WEIGHTS, {"format": "pt"})
    config = json.loads((whole / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))
    return folder
