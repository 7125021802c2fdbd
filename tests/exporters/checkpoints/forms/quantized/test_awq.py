"""AWQ checkpoints load low-bit and equal AutoAWQ's own layers; other layouts, and damaged ones, are named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.forms.folder import LoadedModel
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.forms.quantized_checkpoints import rewrite_quantization, rewrite_tensors

AUTOAWQ = Path(checkpoints.__file__).parent / "forms" / "awq_autoawq" / "asymmetric"
IDS = torch.arange(3, 35)[None]
LAYER = "model.layers.0.mlp.down_proj"
MIDDLE = -0x77777778  # 8 in every code of a word


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(AUTOAWQ, tmp_path / "c", ignore=shutil.ignore_patterns("reference*"))


def _logits(loaded: LoadedModel) -> Tensor:
    with torch.no_grad():
        logits: Tensor = loaded.model(input_ids=IDS).logits
    return logits


def _layer(folder: Path) -> QuantizedLinear:
    layer = load_checkpoint(folder).model.get_submodule(LAYER)
    assert isinstance(layer, QuantizedLinear)
    return layer


def test_a_checkpoint_of_autoawq_equals_its_own_layers(folder: Path) -> None:
    expected = load_file(AUTOAWQ / "reference.safetensors")["logits"]
    loaded = load_checkpoint(folder)
    torch.testing.assert_close(_logits(loaded), expected, rtol=0, atol=1e-5)
    facts = loaded.quantization
    assert facts is not None
    assert (facts.method, facts.format) == ("awq", "gemm")
    (scheme,) = facts.schemes
    assert (scheme.layers, scheme.bits, scheme.type, scheme.group_size) == (7, 4, "int", 32)
    assert (scheme.symmetric, scheme.activations) == (False, "none")


def test_its_own_file_says_the_same_as_the_config(folder: Path) -> None:
    expected = _logits(load_checkpoint(folder))
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    said = {"zero_point": True, "q_group_size": 32, "w_bit": 4, "version": "GEMM"}
    (folder / "quant_config.json").write_text(json.dumps(said))
    loaded = load_checkpoint(folder)
    assert torch.equal(_logits(loaded), expected)
    assert "quantization as quant_config.json has it: config.json says nothing" in loaded.notes


@pytest.mark.parametrize("stated", [True, False])
def test_zero_points_in_the_middle_of_the_grid_are_none(stated: bool, folder: Path) -> None:
    def even(tensors: dict[str, Tensor]) -> None:
        for name in tensors:
            if name.endswith("qzeros"):
                tensors[name] = torch.full_like(tensors[name], MIDDLE)

    rewrite_tensors(folder, even)
    rewrite_quantization(folder, lambda fields: fields.update(zero_point=stated))
    assert _layer(folder).quantized.zeros is None


def test_a_scale_an_output_channel_is_one_group(folder: Path) -> None:
    def whole(tensors: dict[str, Tensor]) -> None:
        for name in tensors:
            if name.endswith(("qzeros", "scales")):
                tensors[name] = tensors[name][:1]

    rewrite_tensors(folder, whole)
    rewrite_quantization(folder, lambda fields: fields.update(group_size=-1))
    assert _layer(folder).quantized.group_size is None


def test_its_own_file_may_not_contradict_the_config(folder: Path) -> None:
    (folder / "quant_config.json").write_text('{"w_bit": 4, "q_group_size": 64}')
    with pytest.raises(CheckpointError, match=r"quant_config\.json says group_size 64, .*group_size is 32"):
        load_checkpoint(folder)


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "8 bits": ({"bits": 8}, r"quantization_config\.bits is 8, supported is 4"),
    "another layout": ({"version": "gemv"}, r"quantization_config\.version is 'gemv', supported is 'gemm'"),
    "its newer name": ({"version": None, "format": "marlin"}, "format is 'marlin', supported is 'gemm'"),
    "group size": ({"group_size": 0}, "group_size is 0"),
    "AutoAWQ's own name": ({"q_group_size": 64}, "q_group_size is 64, supported is null"),
    "llm-awq": ({"backend": "llm-awq"}, "backend is 'llm-awq'"),
    "rotation": ({"rotation": "hadamard"}, "rotation is 'hadamard'"),
    "zero points": (
        {"zero_point": False},
        r"qzeros' holds zero points, and .*zero_point is false: set it to true",
    ),
    "a slip": ({"zero_points": False}, r"zero_points is False, .*: is 'zero_point' meant"),
    "a word": ({"zero_point": "false"}, r"quantization_config\.zero_point is 'false', must be true or false"),
    "group too long": ({"group_size": 48}, "which group_size 48 does not divide"),
    "other groups": ({"group_size": 64}, r"qzeros' has shape \[4, 8\], the config expects \[2, 8\]"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_config_that_cannot_be_served_is_refused_by_its_field(field: str, folder: Path) -> None:
    change, message = FIELDS[field]
    rewrite_quantization(folder, lambda stated: stated.update(change))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


DAMAGES: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "no scales": (lambda t: t.pop(f"{LAYER}.scales"), rf"lacks tensor '{LAYER}\.scales'"),
    "no zeros": (lambda t: t.pop(f"{LAYER}.qzeros"), rf"lacks tensor '{LAYER}\.qzeros'"),
    "scales of an activation": (
        lambda t: t.update({"model.layers.0.mlp.act.scales": torch.ones(128)}),
        r"model\.layers\.0\.mlp\.act\.scales",
    ),
    "an expert": (
        lambda t: t.update({"model.layers.0.mlp.experts.0.w1.qweight": torch.zeros(1, 1, dtype=torch.int32)}),
        "is an expert's and quantized",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_tensor_at_fault_is_named(damage: str, folder: Path) -> None:
    change, message = DAMAGES[damage]
    rewrite_tensors(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_a_config_beside_full_precision_weights_is_refused(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "llama", num_hidden_layers=1)
    (folder / "quant_config.json").write_text('{"w_bit": 4}')
    with pytest.raises(CheckpointError, match=r"no tensor named '\.\.\.qweight'"):
        load_checkpoint(folder)
