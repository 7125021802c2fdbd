"""Checkpoints of torchao compute what its own tensors do; what its products do and ours do not is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.effort import full_effort
from support.forms import adapters
from support.forms.quantized_checkpoints import read_tensors, rewrite_quantization, state_quantization

SAVED = Path(checkpoints.__file__).parent / "forms" / "torchao_saved"
FILE = "model.safetensors"
LAYER = "model.layers.0.mlp.down_proj"
IDS = torch.arange(3, 35)[None]
SCHEMES = {
    "int8_weight": (8, "int", None, True, "none"),
    "int8_weight_group": (8, "int", 16, True, "none"),
    "int8_dynamic": (8, "int", None, True, "int8 per token"),
    "float8_weight": (8, "float", None, True, "none"),
    "float8_dynamic": (8, "float", None, True, "fp8 per token"),
    "int4_asymmetric": (4, "int", 16, False, "none"),
    "int4_zero_points": None,
}
"""Bits, type, group, symmetric, inputs; None: read as full precision."""


def copied(variant: str, folder: Path) -> Path:
    return shutil.copytree(SAVED / variant, folder, ignore=shutil.ignore_patterns("reference*"))


def header(folder: Path) -> dict[str, str]:
    with safe_open(folder / FILE, framework="pt") as stored:
        return dict(stored.metadata())


def rewrite(folder: Path, tensors: dict[str, Tensor] | None = None, **said: Any) -> Path:
    """Overwrites tensors, and entries of what the header says of LAYER's weight."""
    written = header(folder)
    entry = json.loads(written[f"{LAYER}.weight"])
    data = entry["_data"] | {key: value for key, value in said.items() if not key.startswith("_")}
    entry |= {key: value for key, value in said.items() if key.startswith("_")} | {"_data": data}
    stored = read_tensors(folder) | (tensors or {})
    save_file(stored, folder / FILE, {**written, f"{LAYER}.weight": json.dumps(entry)})
    return folder


def logits(source: Checkpoint) -> Tensor:
    with torch.no_grad():
        answer: Tensor = source.model(input_ids=IDS).logits
    return answer


@pytest.mark.parametrize("variant", SCHEMES)
def test_a_checkpoint_computes_what_torchao_does(variant: str) -> None:
    reference = load_file(SAVED / variant / "reference.safetensors")
    source = load_checkpoint(SAVED / variant)
    with torch.no_grad():
        outputs = source.model.get_submodule(LAYER)(reference["inputs"])
    torch.testing.assert_close(outputs, reference["outputs"], rtol=0, atol=1e-5)
    # A token's loudest value lies between two codes of int8, which the last bit of what is before it decides.
    off = (logits(source) - reference["logits"]).norm() / reference["logits"].norm()
    assert off <= (2e-2 if variant == "int8_dynamic" else 1e-6)
    scheme = SCHEMES[variant]
    assert (source.quantization is None) == (scheme is None)
    if source.quantization is not None:
        (facts,) = source.quantization.schemes
        assert (facts.bits, facts.type, facts.group_size, facts.symmetric, facts.activations) == scheme
        assert (source.quantization.method, facts.layers) == ("torchao", 7)
    else:
        assert any("7 weight matrices are stored in torchao's Int4Tensor" in note for note in source.notes)


BLOCKS: dict[str, tuple[str, list[int], tuple[int, int], str | None]] = {
    "a matrix": ("int8_weight", [32, 64], (1, 1), None),
    "blocks": ("float8_weight", [8, 16], (4, 4), None),
    "3 bits a row": ("int4_asymmetric", [1, 64], (32, 1), "int3"),
    "6 bits in groups": ("int4_asymmetric", [1, 32], (32, 2), "int6"),
}


@pytest.mark.parametrize("case", BLOCKS)
def test_scales_are_those_of_the_blocks_that_the_header_says(case: str, tmp_path: Path) -> None:
    variant, block, shape, target = BLOCKS[case]
    folder = copied(variant, tmp_path / "c")
    torch.manual_seed(3)
    scales = torch.rand(shape) + 0.1
    codes = read_tensors(folder)[f"{LAYER}._weight_qdata"]
    said: dict[str, Any] = {"block_size": block}
    if target is not None:
        half = 2 ** (int(target[-1]) - 1)
        codes = torch.randint(-half, half, (32, 64), dtype=torch.int8)
        said["target_dtype"] = {"_type": "torch.dtype", "_data": target}
    changed = {f"{LAYER}._weight_qdata": codes, f"{LAYER}._weight_scale": scales}
    if variant != "float8_weight":
        changed[f"{LAYER}._weight_zero_point"] = torch.zeros(shape, dtype=torch.int8)
    layer = load_checkpoint(rewrite(folder, changed, **said)).model.get_submodule(LAYER)
    assert isinstance(layer, QuantizedLinear)
    each = scales.repeat_interleave(32 // shape[0], 0).repeat_interleave(64 // shape[1], 1)
    torch.testing.assert_close(layer.quantized.dequantized(), codes.float() * each, rtol=1e-6, atol=0)
    assert layer.quantized.bits == (4 if target == "int3" else 8)


def test_layers_of_several_classes_are_each_what_they_are(tmp_path: Path) -> None:
    folder, other = copied("int8_weight", tmp_path / "c"), SAVED / "int4_zero_points"
    rewrite_quantization(folder, lambda stated: stated["quant_type"]["default"].update(_type="FqnToConfig"))
    parts = {name: tensor for name, tensor in read_tensors(other).items() if name.startswith(LAYER)}
    name = f"{LAYER}.weight"
    save_file(read_tensors(folder) | parts, folder / FILE, header(folder) | {name: header(other)[name]})
    model: Any = load_checkpoint(folder).model
    whole: Any = load_checkpoint(other).model
    assert torch.equal(model.get_parameter(name), whole.get_parameter(name))
    assert isinstance(model.model.layers[0].mlp.up_proj, QuantizedLinear)


def test_an_adapter_merges_into_what_the_codes_stand_for(tmp_path: Path) -> None:
    base = SAVED / "int8_weight"
    source = load_checkpoint(base).model
    dense = checkpoints.causal_lm(
        tmp_path / "dense", "llama", hidden_size=32, intermediate_size=64, num_hidden_layers=1
    )
    tensors = read_tensors(dense)
    for name, layer in source.named_modules():
        if isinstance(layer, QuantizedLinear):
            tensors[f"{name}.weight"] = layer.quantized.dequantized()
    tensors |= {name: tensor.detach().clone() for name, tensor in source.named_parameters()}
    save_file(tensors, dense / FILE, {"format": "pt"})
    trained = adapters.lora(tmp_path / "adapter", dense)
    merged = load_checkpoint(trained.folder, base=base)
    torch.testing.assert_close(logits(merged), trained.outputs(IDS), rtol=0, atol=1e-4)
    assert merged.quantization is None


ROW = {"_type": "PerRow", "_data": {"dim": -1}}
SYMMETRIC = {"_type": "MappingType", "_data": "SYMMETRIC"}


def inputs(kind: str = "QuantizeTensorToInt8Kwargs", **rule: Any) -> dict[str, Any]:
    told = {"granularity": ROW, "mapping_type": SYMMETRIC, "reduce_range": False}
    return {"act_quant_kwargs": {"_type": kind, "_data": told | rule}}


BOUNDED = {
    "act_quant_kwargs": {
        "_type": "QuantizeTensorToFloat8Kwargs",
        "_data": {"granularity": ROW, "hp_value_ub": 1.0, "mm_config": None},
    }
}
SAID: dict[str, tuple[str, dict[str, Any], str]] = {
    "around another zero": (
        "int8_dynamic",
        inputs(mapping_type=SYMMETRIC | {"_data": "ASYMMETRIC"}),
        r"act_quant_kwargs\.mapping_type .*'ASYMMETRIC'.*, supported is .*SYMMETRIC",
    ),
    "a scale of a pass": ("int8_dynamic", inputs(granularity={"_type": "PerTensor", "_data": {}}), r"\.granularity"),
    "7 bits": ("int8_dynamic", inputs(reduce_range=True), r"act_quant_kwargs\.reduce_range True, supported is false"),
    "bounds": ("float8_dynamic", BOUNDED, r"hp_value_ub 1\.0, supported is null"),
    "other inputs": ("int8_dynamic", inputs("QuantizeTensorToMXKwargs"), r"act_quant_kwargs .*ToMXKwargs"),
    "no rule": ("int8_dynamic", {"act_quant_kwargs": {"_type": "QuantizeTensorToInt8Kwargs"}}, r"granularity None"),
    "by token around another zero": (
        "int4_asymmetric",
        {"activation_quantization": "int8_asym_per_token"},
        r"activation_quantization 'int8_asym_per_token', supported is null",
    ),
    "float8 against int4": (
        "int4_zero_points",
        {"activation_dtype": {"_type": "torch.dtype", "_data": "float8_e4m3fn"}},
        r"activation_dtype .*float8_e4m3fn.*, supported is bfloat16",
    ),
    "tiles": ("int4_zero_points", {"_type": "Int4TilePackedTo4dTensor"}, r"torchao's 'Int4TilePackedTo4dTensor'"),
    "scaled inputs": (
        "int8_weight",
        {"_tensor_data_names": ["qdata", "scale", "act_pre_scale"]},
        r"_tensor_data_names 'act_pre_scale', supported is qdata, scale, zero_point",
    ),
    "an attribute": ("int8_weight", {"tiles": 8}, r"says tiles 8, supported is nothing of that name"),
    "no block": ("int8_weight", {"block_size": [1]}, r"block_size \[1\], supported is two whole numbers above 0"),
    "a block that is cut": ("int8_weight", {"block_size": [1, 48]}, r"\[32, 64\], which blocks of \[1, 48\] do not"),
    "blocks of int4": ("int4_zero_points", {"block_size": [2, 16]}, r"block_size \[2, 16\], supported is \[1, size"),
    "bits": (
        "int4_asymmetric",
        {"target_dtype": {"_type": "torch.dtype", "_data": "uint4"}},
        r"target_dtype .*uint4.*, supported is int1 to int8",
    ),
    "another class": ("int8_weight", {"_type": "Float8Tensor"}, r"reduce_range False, supported is nothing"),
    "rounded beside its config": (
        "int8_weight",
        inputs(),
        r"quant_type is Int8WeightOnlyConfig, and the header .* Int8Tensor with inputs rounded \(int8 per token\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_what_the_header_says_and_nothing_here_computes_is_named(case: str, tmp_path: Path) -> None:
    variant, said, message = SAID[case]
    folder = rewrite(copied(variant, tmp_path / "c"), **said)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


ZEROS, SCALE, CODES = (f"{LAYER}._weight_{part}" for part in ("zero_point", "scale", "qdata"))
STORED: dict[str, tuple[str, dict[str, Tensor | None], str]] = {
    "no scale": ("int8_weight", {SCALE: None}, rf"lacks tensor '{SCALE}'"),
    "no codes": ("int8_weight", {CODES: None}, rf"lacks tensor '{CODES}'"),
    "zero points of int8": ("int8_weight", {ZEROS: torch.ones(32, 1, dtype=torch.int8)}, r"points 1 to 1, .* has none"),
    "wide zero points": (
        "int4_asymmetric",
        {ZEROS: torch.full((32, 4), 9, dtype=torch.int8)},
        r"holds zero points 9 to 9, and IntxUnpackedToInt8Tensor .* has -8 to 7",
    ),
    "broken zero points": ("int4_asymmetric", {ZEROS: torch.full((32, 4), 0.5)}, r"are no whole numbers"),
    "wide codes": ("int4_asymmetric", {CODES: torch.full((32, 64), 9, dtype=torch.int8)}, r"outside -8\.\.7"),
    "codes of another type": (
        "float8_weight",
        {CODES: torch.zeros(32, 64, dtype=torch.float8_e5m2)},
        r"stored as float8_e5m2, the config expects float8_e4m3fn",
    ),
    "another width": ("int8_weight", {CODES: torch.zeros(32, 32, dtype=torch.int8)}, r"shape \[32, 32\]|\[32, 64\]"),
    "a tensor of no weight": ("int8_weight", {f"{LAYER}._bias_qdata": torch.ones(2)}, r"_bias_qdata', which its"),
}  # fmt: skip


@pytest.mark.parametrize("case", STORED)
def test_a_tensor_at_fault_is_named(case: str, tmp_path: Path) -> None:
    variant, changes, message = STORED[case]
    folder = copied(variant, tmp_path / "c")
    tensors = {**read_tensors(folder), **changes}
    whole = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(whole, folder / FILE, header(folder))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


CONFIGS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a word": (
        lambda stated: stated.update(quant_type="int8_weight_only"),
        r"is 'int8_weight_only', as versions",
    ),
    "two": (
        lambda stated: stated["quant_type"].update(other={}),
        r"must be an object with the one key 'default'",
    ),
    "no class": (
        lambda stated: stated["quant_type"]["default"].pop("_type"),
        r"must be an object with the one key",
    ),
    "another class": (
        lambda stated: stated["quant_type"]["default"].update(_type="Float8WeightOnlyConfig"),
        r"quant_type is Float8WeightOnlyConfig, and the header .* says Int8Tensor of 'model",
    ),
    "a slip": (
        lambda stated: stated.update(quant_typ="int8", quant_type_kwargs={}),
        r"quantization_config\.quant_typ is unknown",
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_its_weights_contradict_is_named(case: str, tmp_path: Path) -> None:
    change, message = CONFIGS[case]
    folder = copied("int8_weight", tmp_path / "c")
    rewrite_quantization(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_files_without_their_header_are_refused(tmp_path: Path) -> None:
    folder = copied("int8_weight", tmp_path / "c")
    save_file(read_tensors(folder), folder / FILE, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"the header of the safetensors has None for 'tensor_names'"):
        load_checkpoint(folder)
    whole = checkpoints.causal_lm(tmp_path / "d", "llama", num_hidden_layers=1)
    default = {"_type": "Int8WeightOnlyConfig", "_data": {}}
    state_quantization(whole, quant_method="torchao", quant_type={"default": default})
    said = {"tensor_names": json.dumps(["model.norm.weight"]), "model.norm.weight": '{"_type": "Tensor"}'}
    save_file(read_tensors(whole), whole / FILE, said)
    with pytest.raises(CheckpointError, match=r"holds no weight that its header calls quantized: remove"):
        load_checkpoint(whole)


@full_effort
@pytest.mark.parametrize("variant", [name for name, scheme in SCHEMES.items() if scheme is not None])
def test_a_bundle_equals_it_in_every_mode(variant: str, tmp_path: Path) -> None:
    limits = {"max_prefix_tokens": 24, "max_item_tokens": 12}
    bundle = export(SAVED / variant, tmp_path / "b", kind="ranker", label_ids=(4, 5), **limits)
    assert bundle.manifest.quantization is not None
    assert (bundle.manifest.quantization.method, bundle.manifest.quantization.by) == ("torchao", "checkpoint")
    assert bundle.manifest.parity is not None
    allowed = 1e-2 if variant.endswith("dynamic") else 1e-5
    assert max(mode.relative_error for mode in bundle.manifest.parity.modes) <= allowed
    assert verify(bundle.path, SAVED / variant).failures == ()
