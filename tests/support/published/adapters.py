"""Adapters over folders of published layouts as peft saves them, and the same merged by hand: W + s B A."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

RANK, ALPHA = 4, 6
_WEIGHTS = "model.safetensors"


def adapt(
    folder: Path,
    base: Path,
    targets: list[str],
    named: Callable[[str], str] = str,
    saved: Mapping[str, Tensor] | None = None,
    **config: Any,
) -> tuple[Path, Path]:
    """Saves an adapter of layers of `base`, at random; beside it, by hand, the base with it merged.

    `named` gives the name that a stored tensor has in the model that was trained. `saved` are tensors stored whole, by
    the name that they have in the merged folder. Returns both folders.
    """
    tensors = {name: tensor.float() for name, tensor in load_file(base / _WEIGHTS).items()}
    torch.manual_seed(5)
    trained = {named(name): tensor for name, tensor in (saved or {}).items()}
    for name in [name for name in tensors if name.endswith(tuple(f".{target}.weight" for target in targets))]:
        trained |= _adapted(tensors, name, named(name).removesuffix(".weight"), config)
    adapter, merged = folder / "adapter", folder / "merged"
    adapter.mkdir(parents=True)
    shutil.copytree(base, merged)
    save_file(tensors | dict(saved or {}), merged / _WEIGHTS, {"format": "pt"})
    names = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in trained.items()}
    save_file(names, adapter / "adapter_model.safetensors")
    stated = {
        "auto_mapping": {"base_model_class": "NewModel", "parent_library": "transformers_modules.modeling"},
        "base_model_name_or_path": str(base),
        "lora_alpha": ALPHA,
        "peft_type": "LORA",
        "r": RANK,
        "target_modules": targets,
    }
    (adapter / "adapter_config.json").write_text(json.dumps(stated | config))
    return adapter, merged


def _adapted(tensors: dict[str, Tensor], name: str, layer: str, config: dict[str, Any]) -> dict[str, Tensor]:
    """Makes the adapter of one layer, merged into its weight in place (arXiv 2106.09685; DoRA: 2402.09353)."""
    weight, scale = tensors[name], ALPHA / RANK
    rows, columns = weight.shape
    down, up = torch.randn(RANK, columns) * 0.3, torch.randn(rows, RANK) * 0.3
    tensors[name] = weight + scale * up @ down
    if layer.endswith("_embeddings"):  # whose A has the rows, B the width
        return {f"{layer}.lora_embedding_A": up.T, f"{layer}.lora_embedding_B": down.T}
    added = {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
    if config.get("use_dora"):
        magnitude = torch.rand(rows) + 0.5
        tensors[name] *= (magnitude / tensors[name].norm(dim=1))[:, None]
        added[f"{layer}.lora_magnitude_vector"] = magnitude
    return added
