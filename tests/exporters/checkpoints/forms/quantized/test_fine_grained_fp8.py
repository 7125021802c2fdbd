"""Fine-grained FP8 checkpoints equal the libraries that share their layout; what would be another model is named."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.forms.folder import LoadedModel
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.forms.quantized_checkpoints import (
    compressed_tensors,
    library_logits,
    quiet,
    read_tensors,
    rewrite_quantization,
    rewrite_tensors,
    state_quantization,
)

IDS = torch.arange(3, 20)[None]
LAYER = "model.layers.0.mlp.down_proj"
SKIPPED = {"modules_to_not_convert": ["lm_head"]}


def as_fine_grained(folder: Path, **fields: Any) -> Path:
    """States FP8 as DeepSeek and Qwen do, and names scales as they do."""

    def rename(tensors: dict[str, Tensor]) -> None:
        for name in [*tensors]:
            other = name.replace("weight_scale", "weight_scale_inv").replace(
                "input_scale", "activation_scale"
            )
            tensors[other] = tensors.pop(name)

    rewrite_tensors(folder, rename)
    said = {"activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [128, 128]}
    return state_quantization(folder, **({"quant_method": "fp8"} | said | SKIPPED | fields))


def _logits(loaded: LoadedModel) -> Tensor:
    with torch.no_grad():
        logits: Tensor = loaded.model(input_ids=IDS).logits
    return logits


WHOLE = {"weight_block_size": None, "activation_scheme": "static"}
FORMS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    # the other library's preset, the fields, the format, and how inputs are rounded
    "blocks": ("FP8_BLOCK", {}, "blocks of 128 x 128", "fp8 per 128 channels"),
    "a scale a matrix": ("FP8", WHOLE, "tensor", "fp8 per tensor"),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_and_inputs_are_scaled_as_stored(form: str, tmp_path: Path) -> None:
    preset, fields, name, inputs = FORMS[form]
    folder = compressed_tensors(tmp_path / "c", preset, num_hidden_layers=1)
    expected = library_logits(folder, IDS)
    loaded = load_checkpoint(as_fine_grained(folder, **fields))
    torch.testing.assert_close(_logits(loaded), expected, rtol=0, atol=1e-5)
    facts = loaded.quantization
    assert facts is not None
    assert (facts.method, facts.format) == ("fp8", name)
    assert {scheme.activations for scheme in facts.schemes} == {inputs}


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = compressed_tensors(tmp_path_factory.mktemp("fp8") / "c", "FP8_BLOCK", num_hidden_layers=1)
    return as_fine_grained(made)


@pytest.fixture
def folder(blocks: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(blocks, tmp_path / "c")


def test_weights_alone_are_what_transformers_dequantizes(folder: Path) -> None:
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
    rewrite_quantization(folder, lambda stated: stated.update(dequantize=True))
    loaded = load_checkpoint(folder)
    torch.testing.assert_close(_logits(loaded), expected, rtol=0, atol=1e-5)
    assert loaded.quantization is not None
    assert {scheme.activations for scheme in loaded.quantization.schemes} == {"none"}


@pytest.mark.parametrize("stored", [torch.float8_e8m0fnu, torch.float32])
def test_weights_alone_have_scales_of_powers_of_two(stored: torch.dtype, folder: Path) -> None:
    """Bytes as transformers writes them, or fp32, as DeepSeek-V3.1 has them."""

    def to_powers(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.endswith("scale_inv")]:
            tensors[name] = tensors[name].log2().ceil().exp2().to(stored)

    rewrite_tensors(folder, to_powers)
    rewrite_quantization(folder, lambda stated: stated.update(dequantize=True, scale_fmt="ue8m0"))
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
    torch.testing.assert_close(_logits(load_checkpoint(folder)), expected, rtol=0, atol=1e-5)


def test_a_matrix_of_one_scale_has_tokens_rounded_by_their_own(folder: Path) -> None:
    rewrite_tensors(
        folder, lambda t: t.update({name: t[name].max() for name in t if name.endswith("scale_inv")})
    )
    rewrite_quantization(folder, lambda stated: stated.update(weight_block_size=None))
    facts = load_checkpoint(folder).quantization
    assert facts is not None
    assert {scheme.activations for scheme in facts.schemes} == {"fp8 per token"}


def test_the_last_block_may_be_cut(folder: Path) -> None:
    """96 of 256 rows and columns: blocks of 96, 96 and 64, so the groups of a row are as long as 32 columns."""
    tensors = read_tensors(folder)
    rows, columns = tensors[f"{LAYER}.weight"].shape
    for name in [name for name in tensors if name.endswith("scale_inv")]:
        shape = tensors[name.removesuffix("_scale_inv")].shape
        tensors[name] = torch.rand(
            [-(-size // 96) for size in shape], generator=torch.Generator().manual_seed(1)
        )
    rewrite_tensors(folder, lambda stored: stored.update(tensors))
    rewrite_quantization(folder, lambda stated: stated.update(weight_block_size=[96, 96]))
    layer = load_checkpoint(folder).model.get_submodule(LAYER)
    assert isinstance(layer, QuantizedLinear)
    scales = tensors[f"{LAYER}.weight_scale_inv"].repeat_interleave(96, 0).repeat_interleave(96, 1)
    expected = tensors[f"{LAYER}.weight"].float() * scales[:rows, :columns]
    assert torch.equal(layer.quantized.dequantized(), expected)


def test_a_layer_in_full_precision_stays_so(folder: Path) -> None:
    tensors = read_tensors(folder)
    whole = torch.randn(tensors[f"{LAYER}.weight"].shape)

    def restore(stored: dict[str, Tensor]) -> None:
        stored[f"{LAYER}.weight"] = whole
        del stored[f"{LAYER}.weight_scale_inv"]

    rewrite_tensors(folder, restore)
    rewrite_quantization(folder, lambda stated: stated["modules_to_not_convert"].append(LAYER))
    loaded = load_checkpoint(folder)
    assert torch.equal(loaded.model.get_submodule(LAYER).weight, whole)
    assert loaded.quantization is not None
    assert LAYER in loaded.quantization.kept


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "a scheme": (
        {"activation_scheme": "none"},
        "activation_scheme is 'none', supported is 'dynamic' or 'static'",
    ),
    "another float8": ({"fmt": "e5m2"}, "fmt is 'e5m2', supported is 'e4m3'"),
    "scales of powers of two": (
        {"scale_fmt": "ue8m0"},
        r"scale_fmt is 'ue8m0': .*set quantization_config\.dequantize to true, which leaves inputs as they are",
    ),
    "scales of another form": ({"scale_fmt": "e5m3"}, "scale_fmt is 'e5m3', supported is 'float' or 'ue8m0'"),
    "a word": ({"dequantize": "false"}, r"dequantize is 'false', must be true or false"),
    "experts in 4 bits": ({"expert_dtype": "fp4"}, "expert_dtype is 'fp4'"),
    "tables": ({"modules_to_convert": ["embed_tokens"]}, r"modules_to_convert is \['embed_tokens'\]"),
    "a block of one number": ({"weight_block_size": [128]}, r"weight_block_size is \[128\]"),
    "blocks too small": ({"weight_block_size": [8, 8]}, "two whole numbers of 16 or more"),
    "blocks of another size": (
        {"weight_block_size": [64, 64]},
        r"weight_scale_inv' has shape \[2, 3\], the config expects \[4, 6\]",
    ),
    "no blocks": ({"weight_block_size": None}, r"has shape \[2, 3\], and .*weight_block_size is null"),
    "no fixed scales": ({"activation_scheme": "static"}, f"lacks tensor '{LAYER}.activation_scale'"),
    "a layer that is not to be": (
        {"modules_to_not_convert": [LAYER]},
        f"layer '{LAYER}' is stored in float8, and",
    ),
    "a field that is unknown": ({"rotate": True}, "quantization_config.rotate is unknown"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_config_that_cannot_be_served_is_refused_by_its_field(field: str, folder: Path) -> None:
    change, message = FIELDS[field]
    rewrite_quantization(folder, lambda stated: stated.update(change))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


DAMAGES: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "no scales": (lambda t: t.pop(f"{LAYER}.weight_scale_inv"), f"lacks tensor '{LAYER}.weight_scale_inv'"),
    "a scale of nothing": (
        lambda t: t.update({"model.norm.weight_scale_inv": torch.ones(1)}),
        "model.norm.weight_scale_inv",
    ),
    "a fixed scale beside a token's": (
        lambda t: t.update({f"{LAYER}.activation_scale": torch.ones(1)}),
        f"{LAYER}.activation_scale",
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
    state_quantization(folder, quant_method="fp8")
    with pytest.raises(CheckpointError, match="holds no float8 weight: remove quantization_config"):
        load_checkpoint(folder)
