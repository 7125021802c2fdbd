"""AutoRound checkpoints are those of GPTQ and AWQ under a config of their own; what is not one is named."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.forms.gptq_checkpoints import Gptq, dequantized
from support.forms.gptq_checkpoints import gptq as write_gptq
from support.forms.quantized_checkpoints import read_tensors, rewrite_quantization

FORMS = Path(checkpoints.__file__).parent / "forms"
AUTOAWQ, MIXED = FORMS / "awq_autoawq" / "asymmetric", FORMS / "auto_round_mixed"
LAYER = "model.layers.0.mlp.down_proj"


def stated(layout: str, **fields: Any) -> dict[str, Any]:
    """Makes a config as AutoRound 0.16 writes it."""
    said = {
        "bits": 4,
        "group_size": 32,
        "sym": True,
        "data_type": "int",
        "iters": 200,
        "low_gpu_mem_usage": True,
    }
    said |= {"autoround_version": "0.16.1", "block_name_to_quantize": "model.layers"}
    return said | {"quant_method": "auto-round", "packing_format": layout} | fields


def rewritten(folder: Path, fields: dict[str, Any]) -> Path:
    def replace(old: dict[str, Any]) -> None:
        old.clear()
        old.update(fields)

    rewrite_quantization(folder, replace)
    return folder


def weight_of(folder: Path) -> torch.Tensor:
    layer = load_checkpoint(folder).model.get_submodule(LAYER)
    assert isinstance(layer, QuantizedLinear)
    return layer.quantized.dequantized()


@pytest.mark.parametrize(
    ("layout", "how"),
    [
        ("auto_round:auto_gptq", Gptq()),
        ("auto_round:auto_gptq", Gptq(bits=8, sym=False)),
        ("auto_round:gptqmodel", Gptq(sym=False, checkpoint_format="gptq_v2")),
        ("auto_round", Gptq(sym=False, checkpoint_format="gptq_v2")),
    ],
)
def test_words_of_gptq_have_the_zero_points_that_the_layout_says(
    layout: str, how: Gptq, tmp_path: Path
) -> None:
    folder = write_gptq(tmp_path / "c", how, num_hidden_layers=1)
    expected = dequantized(read_tensors(folder), LAYER, how.bits, how.checkpoint_format)
    rewritten(folder, stated(layout, bits=how.bits, sym=how.sym, extra_config={"lm_head": {"bits": 16}}))
    torch.testing.assert_close(weight_of(folder), expected, rtol=0, atol=0)
    facts = load_checkpoint(folder).quantization
    assert facts is not None
    assert facts.method == "auto-round"


@pytest.mark.parametrize("variant", ["symmetric", "asymmetric"])
def test_layers_of_other_bits_equal_autorounds_own(variant: str) -> None:
    """Layers of 2, 3 and 8 bits among those of 4, groups of their own, one named by a regular expression."""
    loaded = load_checkpoint(MIXED / variant)
    expected = load_file(MIXED / variant / "reference.safetensors")["logits"]
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.arange(3, 35)[None]).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert loaded.notes[1:] == tuple(f"weights stored in {bits} bits are kept in 4" for bits in (2, 3))
    facts = loaded.quantization
    assert facts is not None
    assert {(scheme.bits, scheme.group_size) for scheme in facts.schemes} == {(4, None), (4, 32), (8, None)}
    assert "model.layers.0.mlp.up_proj" in facts.kept


@pytest.mark.parametrize("others", [{"down": {"bits": 3}}, {LAYER: {"bits": 3}, "down|up": {"bits": 2}}])
def test_a_name_counts_before_expressions_and_those_match_anywhere(
    others: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_gptq(tmp_path / "c", Gptq(), num_hidden_layers=1)
    three = read_tensors(write_gptq(tmp_path / "three", Gptq(bits=3), num_hidden_layers=1))
    tensors = read_tensors(folder) | {name: three[name] for name in three if name.startswith(LAYER)}
    if "down|up" in others:
        two = read_tensors(write_gptq(tmp_path / "two", Gptq(bits=2), num_hidden_layers=1))
        tensors |= {name: two[name] for name in two if ".up_proj." in name}
    save_file(tensors, folder / "model.safetensors")
    rewritten(folder, stated("auto_round:auto_gptq", extra_config=others))
    assert torch.equal(weight_of(folder), dequantized(tensors, LAYER, 3, "gptq"))


@pytest.mark.parametrize("stored", ["gptq", "gptq_v2"])
def test_zero_points_of_older_versions_tell_how_they_are_stored(stored: str, tmp_path: Path) -> None:
    folder = write_gptq(tmp_path / "c", Gptq(checkpoint_format=stored), num_hidden_layers=1)
    expected = dequantized(read_tensors(folder), LAYER, 4, stored)
    older = {"quant_method": "intel/auto-round", "backend": "auto_round:gptq:exllamav2"}
    rewritten(folder, {"bits": 4, "group_size": 32, "sym": True, "data_type": "int"} | older)
    torch.testing.assert_close(weight_of(folder), expected, rtol=0, atol=0)
    rewritten(folder, {"bits": 4, "group_size": 32, "sym": False} | older)
    with pytest.raises(CheckpointError, match="packing_format is None, supported is auto_round:auto_gptq"):
        load_checkpoint(folder)


@pytest.mark.parametrize("layout", ["auto_round:auto_gptq", "auto_round:auto_awq"])
def test_groups_of_negative_scales_are_turned_around(layout: str, tmp_path: Path) -> None:
    """AutoRound gives the end of a group that is farther from 0 the code -8: where it is above 0 its scale is not."""
    if layout == "auto_round:auto_gptq":
        folder = write_gptq(tmp_path / "c", Gptq(desc_act=True), num_hidden_layers=1)
    else:
        folder = shutil.copytree(AUTOAWQ, tmp_path / "c", ignore=shutil.ignore_patterns("reference*"))
    before, tensors = weight_of(folder), read_tensors(folder)
    turned = torch.arange(tensors[f"{LAYER}.scales"].numel()).reshape_as(tensors[f"{LAYER}.scales"]) % 3 == 0
    scales = tensors[f"{LAYER}.scales"]
    tensors[f"{LAYER}.scales"] = torch.where(turned, -scales, scales)
    save_file(tensors, folder / "model.safetensors")
    rewritten(folder, stated(layout, sym=layout == "auto_round:auto_gptq"))
    layer = load_checkpoint(folder).model.get_submodule(LAYER)
    assert isinstance(layer, QuantizedLinear)
    assert layer.quantized.scales.min() >= 0
    groups = torch.arange(before.shape[1]) // 32
    groups = tensors.get(f"{LAYER}.g_idx", groups).long()
    assert torch.equal(layer.quantized.dequantized(), torch.where(turned.T[:, groups], -before, before))


def test_words_of_awq_are_read_as_autoawqs(tmp_path: Path) -> None:
    expected = weight_of(AUTOAWQ)
    folder = shutil.copytree(AUTOAWQ, tmp_path / "c", ignore=shutil.ignore_patterns("reference*"))
    rewritten(folder, stated("auto_round:auto_awq", sym=False))
    assert torch.equal(weight_of(folder), expected)


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "another layout": (
        {"packing_format": "auto_round:fp8_static"},
        "packing_format is 'auto_round:fp8_static'",
    ),
    "none": ({"packing_format": None}, "packing_format is None, supported is auto_round:auto_gptq"),
    "floats": ({"data_type": "mx_fp"}, "data_type is 'mx_fp', supported is 'int'"),
    "inputs": ({"act_bits": 8}, "act_bits is 8, supported is 16 or more"),
    "bits": ({"bits": 2}, "bits is 2, supported is 4"),
    "a rotation": ({"rotation_config": {"algorithm": "hadamard"}}, "rotation_config is"),
    "a layer of others": (
        {"extra_config": {LAYER: {"bits": 8}}},
        rf"extra_config\.{LAYER}\.bits is 8, supported is 4, as of all layers",
    ),
    "a layer that is not full": (
        {"packing_format": "auto_round", "extra_config": {LAYER: {"bits": 16}}},
        rf"'{LAYER}' is stored in codes, and config.json: quantization_config.extra_config.{LAYER} leaves it",
    ),
    "floats of a layer": (
        {"packing_format": "auto_round", "extra_config": {"down": {"data_type": "mx_fp"}}},
        r"extra_config\.down\.data_type is 'mx_fp', supported is 'int'",
    ),
    "no expression": (
        {"packing_format": "auto_round", "extra_config": {"(": {"bits": 8}}},
        r"extra_config\.\( is no regular expression",
    ),
    "a slip in a layer": ({"extra_config": {LAYER: {"group_sizes": 32}}}, "is 'group_size' meant"),
    "a slip": ({"data_types": "int"}, "is 'data_type' meant"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_config_that_cannot_be_served_is_refused_by_its_field(field: str, tmp_path: Path) -> None:
    change, message = FIELDS[field]
    folder = shutil.copytree(AUTOAWQ, tmp_path / "c", ignore=shutil.ignore_patterns("reference*"))
    rewritten(folder, stated("auto_round:auto_awq", sym=False) | change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)
