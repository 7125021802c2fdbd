"""Adapters of experts that were modules, as transformers 4 had them, merge into experts that are stacked."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.forms import adapters

RANK, ALPHA = 4, 6
EXPERTS = {"mixtral": ("w1", "w3", "w2"), "qwen3_moe": ("gate_proj", "up_proj", "down_proj")}
"""Names of gate, up and down."""
FEW = {"qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2}, "mixtral": {}}


def write_adapter(folder: Path, base: Path, targets: list[str], **fields: Any) -> dict[str, Tensor]:
    """Writes an adapter of layers of `targets`, by their stored names; gives the base's tensors, merged by hand."""
    torch.manual_seed(5)
    tensors, stored = load_file(base / "model.safetensors"), {}
    for name in [name for name in tensors if name.split(".")[-2] in targets]:
        rows, columns = tensors[name].shape
        a, b = torch.randn(RANK, columns) / 5, torch.randn(rows, RANK) / 5
        module = f"base_model.model.{name.removesuffix('.weight')}"
        stored |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
        tensors[name] = tensors[name].float() + ALPHA / RANK * b @ a
    folder.mkdir()
    save_file(stored, folder / "adapter_model.safetensors")
    said = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": ALPHA,
        "peft_version": "0.13.2",
    }
    said |= {"base_model_name_or_path": str(base), "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps(said | fields))
    return tensors


@pytest.mark.parametrize("parts", ["all", "down alone", "experts alone"])
@pytest.mark.parametrize("model_type", EXPERTS)
def test_an_adapter_of_each_expert_merges_into_the_stack(model_type: str, parts: str, tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", model_type, num_hidden_layers=1, **FEW[model_type])
    names = EXPERTS[model_type]
    targets = {"all": ["q_proj", *names], "down alone": ["q_proj", names[2]], "experts alone": [*names]}[
        parts
    ]
    merged = write_adapter(tmp_path / "adapter", base, targets)
    by_hand = shutil.copytree(base, tmp_path / "merged")
    save_file(merged, by_hand / "model.safetensors", {"format": "pt"})
    expected = adapters.outputs(load_checkpoint(by_hand).model)
    assert (adapters.outputs(load_checkpoint(tmp_path / "adapter").model) - expected).abs().max() <= 1e-5
    assert (adapters.outputs(load_checkpoint(base).model) - expected).abs().max() > 1e-2


REFUSED: dict[str, dict[str, Any]] = {
    "use_rslora": {"use_rslora": True},
    "alpha_pattern": {"alpha_pattern": {"w1": 2}},
    "layers_to_transform": {"layers_to_transform": [0]},
}


@pytest.mark.parametrize("field", REFUSED)
def test_scales_that_peft_loses_on_the_way_are_refused(field: str, tmp_path: Path) -> None:
    """Merged by peft, whose gate and up have twice the rank then, such an adapter is another."""
    base = checkpoints.causal_lm(tmp_path / "base", "mixtral", num_hidden_layers=1)
    write_adapter(tmp_path / "adapter", base, ["q_proj", *EXPERTS["mixtral"]], **REFUSED[field])
    message = rf"w1\.lora_A\.weight' has a name of transformers 4, and adapter_config\.json: {field} is lost"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "adapter")
