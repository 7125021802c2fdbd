"""Folders of published layouts: config.json, tensors and tokenizer by their published names, values at random."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from support.reading.pair_encoders import pair_tokenizer

VOCABULARY, WIDTH, INNER, HEADS, LAYERS = 101, 32, 48, 4, 2
Shapes = Mapping[str, tuple[int, ...]]


def write_folder(
    folder: Path,
    config: dict[str, Any],
    shapes: Shapes,
    frame: str = "roberta",
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Writes config, tensors of these shapes and a tokenizer of the family's frame of pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(11)
    tensors = {name: _values(name, shape).to(dtype) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    pair_tokenizer(frame).save_pretrained(folder)
    return folder


def change(folder: Path, **fields: Any) -> Path:
    """Sets fields of config.json; `...` takes one out."""
    file = folder / "config.json"
    raw = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({name: value for name, value in raw.items() if value is not ...}))
    return folder


def stored(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Reads config and tensors, in fp32."""
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    return config, {name: tensor.float() for name, tensor in tensors.items()}


def layer_of(prefix: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Repeats the shapes of a layer."""
    return {f"{prefix}.{place}.{name}": shape for place in range(LAYERS) for name, shape in shapes.items()}


def with_bias(**shapes: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Names weights and biases of linear layers; `__` stands for a dot."""
    names = {name.replace("__", "."): shape for name, shape in shapes.items()}
    return {f"{name}.weight": shape for name, shape in names.items()} | {
        f"{name}.bias": shape[:1] for name, shape in names.items()
    }


def norms(*names: str) -> dict[str, tuple[int, ...]]:
    """Names weights and biases of norms."""
    return {f"{name}.{part}": (WIDTH,) for name in names for part in ("weight", "bias")}


def _values(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    is_norm = name.endswith(".weight") and len(shape) == 1
    return torch.randn(shape) * (0.1 if len(shape) == 1 else 0.2) + (1 if is_norm else 0)
