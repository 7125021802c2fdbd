"""compressed-tensors checkpoints load low-bit and equal the library that wrote them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.protos.errors import CheckpointError
from support.forms.compressed_tensors_loading import LAYER, load_compressed
from support.forms.quantized_checkpoints import (
    W4A16_CHANNEL_ASYM,
    W8A16_CHANNEL,
    Scheme,
    compressed_tensors,
    library_logits,
    quiet,
    read_tensors,
    rewrite_tensors,
)

IDS = torch.arange(3, 35)[None]
INT8_STATIC = {
    "weights": QuantizationArgs(num_bits=8, type="int", strategy="tensor", symmetric=True),
    "input_activations": QuantizationArgs(num_bits=8, type="int", strategy="tensor", symmetric=True),
}
W3A16_ASYM = {
    "weights": QuantizationArgs(num_bits=3, type="int", strategy="group", group_size=64, symmetric=False)
}
INT8_ASYM = {
    "weights": QuantizationArgs(num_bits=8, type="int", strategy="channel", symmetric=False),
    "input_activations": QuantizationArgs(num_bits=8, type="int", strategy="token", dynamic=True),
}
# Scheme, what else the checkpoint has, and the facts that are read: bits, type, group sizes, symmetric, activations.
SCHEMES: dict[str, tuple[Scheme, dict[str, Any], tuple[int, str, set[int | None], bool, str]]] = {
    "W4A16": ("W4A16", {}, (4, "int", {128}, True, "none")),
    "W4A16 in bf16": ("W4A16", {"dtype": torch.bfloat16}, (4, "int", {128}, True, "none")),
    "W4A16 asymmetric": ("W4A16_ASYM", {}, (4, "int", {128}, False, "none")),
    "W4A16 per channel, asymmetric": (W4A16_CHANNEL_ASYM, {}, (4, "int", {None}, False, "none")),
    "W2A16": ("W2A16", {}, (4, "int", {128}, True, "none")),
    "W3A16 asymmetric": (W3A16_ASYM, {}, (4, "int", {64}, False, "none")),
    "W5A8": ("W5A8", {}, (8, "int", {128}, True, "int8 per token")),
    "W7A16": ("W7A16", {}, (8, "int", {128}, True, "none")),
    "W8A16": (W8A16_CHANNEL, {}, (8, "int", {None}, True, "none")),
    "W4A8": ("W4A8", {}, (4, "int", {128}, True, "int8 per token")),
    "W8A8": ("W8A8", {}, (8, "int", {None}, True, "int8 per token")),
    "W8A8 in bf16": ("W8A8", {"dtype": torch.bfloat16}, (8, "int", {None}, True, "int8 per token")),
    "W8A8 static": (INT8_STATIC, {}, (8, "int", {None}, True, "int8 per tensor")),
    "W8A8 asymmetric weights": (INT8_ASYM, {}, (8, "int", {None}, False, "int8 per token")),
    "FP8": ("FP8", {}, (8, "float", {None}, True, "fp8 per tensor")),
    "FP8 dynamic": ("FP8_DYNAMIC", {}, (8, "float", {None}, True, "fp8 per token")),
    "FP8 dynamic in bf16": (
        "FP8_DYNAMIC",
        {"dtype": torch.bfloat16},
        (8, "float", {None}, True, "fp8 per token"),
    ),
    # heads x head_dim is half of the width, as after the pruning of attention groups
    "W4A16 pruned": (
        "W4A16",
        {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64, "intermediate_size": 128},
        (4, "int", {128}, True, "none"),
    ),
    "W8A8 biased": ("W8A8", {"model_type": "qwen2"}, (8, "int", {None}, True, "int8 per token")),
}


def _logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=IDS).logits
    return logits


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_checkpoint_equals_the_library_that_wrote_it_and_stays_low_bit(scheme: str, tmp_path: Path) -> None:
    arguments, others, facts = SCHEMES[scheme]
    folder = compressed_tensors(tmp_path / "c", arguments, **others)
    loaded = load_compressed(folder)
    torch.testing.assert_close(_logits(loaded.model), library_logits(folder, IDS), rtol=0, atol=1e-5)
    layers = [one for one in loaded.model.modules() if isinstance(one, nn.Linear | QuantizedLinear)]
    assert [type(one) for one in layers] == [QuantizedLinear] * 14 + [nn.Linear]
    found = loaded.quantization
    assert found is not None
    assert (found.method, found.kept) == (
        "compressed-tensors",
        ("label rows of the LM head", "model.embed_tokens"),
    )
    bits, type_, groups, symmetric, activations = facts
    for one in found.schemes:
        assert (one.bits, one.type, one.symmetric, one.activations) == (bits, type_, symmetric, activations)
    assert groups <= {one.group_size for one in found.schemes} <= groups | {None}
    assert sum(one.layers for one in found.schemes) == 14


def test_zero_points_in_a_narrow_type_differ_from_the_library_by_its_own_rounding_alone(
    tmp_path: Path,
) -> None:
    folder = compressed_tensors(tmp_path / "c", "W4A16_ASYM", dtype=torch.bfloat16)
    model = load_compressed(folder).model
    for layer in model.modules():
        if isinstance(layer, QuantizedLinear):
            rounded = layer.quantized.dequantized().to(torch.bfloat16).to(torch.float32)
            layer.forward = lambda x, rounded=rounded: nn.functional.linear(x, rounded)  # type: ignore[method-assign]
    torch.testing.assert_close(_logits(model), library_logits(folder, IDS), rtol=0, atol=1e-5)


def test_schemes_are_chosen_by_name_then_pattern_then_class(tmp_path: Path) -> None:
    folder = compressed_tensors(
        tmp_path / "c",
        "W4A16",
        others={"re:.*down_proj$": "W8A8", LAYER: "FP8_DYNAMIC"},
        ignore=("re:.*lm_head", "model.layers.0.mlp.up_proj"),
    )
    loaded = load_compressed(folder)
    assert loaded.quantization is not None
    assert loaded.quantization.format == "mixed-precision"
    assert loaded.quantization.kept == (
        "label rows of the LM head",
        "model.embed_tokens",
        "model.layers.0.mlp.up_proj",
    )
    model = loaded.model
    torch.testing.assert_close(_logits(model), library_logits(folder, IDS), rtol=0, atol=1e-5)
    by_name = {name: one for name, one in model.named_modules() if isinstance(one, QuantizedLinear)}
    weights = {name: (one.quantized.bits, one.quantized.type) for name, one in by_name.items()}
    assert weights["model.layers.0.mlp.down_proj"] == (8, "int")
    assert weights[LAYER] == (8, "float")
    assert weights["model.layers.1.mlp.up_proj"] == (4, "int")


def test_activation_order_gives_every_channel_the_scale_of_its_group(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "W4A16")
    order = torch.randperm(384, generator=torch.Generator().manual_seed(0))
    groups_of = torch.empty(384, dtype=torch.int32)
    groups_of[order] = (torch.arange(384) // 128).to(torch.int32)
    rewrite_tensors(folder, lambda tensors: tensors.update({f"{LAYER}.weight_g_idx": groups_of}))
    layer = load_compressed(folder).model.get_submodule(LAYER)
    assert isinstance(layer, QuantizedLinear)
    tensors = read_tensors(folder)
    packed = tensors[f"{LAYER}.weight_packed"].to(torch.int64)
    codes = ((packed[:, :, None] >> torch.arange(0, 32, 4)) & 15).flatten(1) - 8
    expected = codes * tensors[f"{LAYER}.weight_scale"].float()[:, groups_of.long()]
    assert torch.equal(layer.quantized.dequantized(), expected)


def test_a_group_index_of_minus_one_throughout_means_none(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "W4A16")
    expected = _logits(load_compressed(folder).model)
    none = torch.full((384,), -1, dtype=torch.int32)
    rewrite_tensors(folder, lambda tensors: tensors.update({f"{LAYER}.weight_g_idx": none}))
    assert torch.equal(_logits(load_compressed(folder).model), expected)


def test_zero_points_of_zeros_that_old_writers_add_are_dropped(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "FP8")
    expected = _logits(load_compressed(folder).model)
    zeros = {
        f"{LAYER}.{part}_zero_point": torch.zeros(1).to(torch.float8_e4m3fn) for part in ("weight", "input")
    }
    rewrite_tensors(folder, lambda tensors: tensors.update(zeros))
    assert torch.equal(_logits(load_compressed(folder).model), expected)


def test_a_quantized_head_is_kept_low_bit(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "W8A8", ignore=())
    model = load_compressed(folder).model
    assert isinstance(model.get_submodule("lm_head"), QuantizedLinear)
    torch.testing.assert_close(_logits(model), library_logits(folder, IDS), rtol=0, atol=1e-5)


def test_a_stray_head_beside_tied_embeddings_is_accepted_if_equal_and_refused_if_not(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "W4A16", tie_word_embeddings=True)
    expected = _logits(load_compressed(folder).model)
    table = read_tensors(folder)["model.embed_tokens.weight"]
    rewrite_tensors(folder, lambda tensors: tensors.update({"lm_head.weight": table.clone()}))
    assert torch.equal(_logits(load_compressed(folder).model), expected)
    rewrite_tensors(folder, lambda tensors: tensors.update({"lm_head.weight": table + 1}))
    with pytest.raises(CheckpointError, match="holds a different head beside them: remove the stray tensor"):
        load_compressed(folder)


def test_a_bare_body_loads_from_a_checkpoint_with_a_head(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "W8A8", ignore=("lm_head", "model.layers.0.mlp.up_proj"))
    body = load_compressed(folder, "none").model
    assert type(body.get_submodule("layers.0.mlp.up_proj")) is nn.Linear
    with quiet(), torch.no_grad():
        whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        expected = whole(input_ids=IDS, output_hidden_states=True).hidden_states[-1]
        actual = body(input_ids=IDS).last_hidden_state
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_a_layer_that_was_pruned_is_as_wide_as_its_tensors(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "W4A16")
    mlp, kept = "model.layers.1.mlp", 256

    def without_neurons(tensors: dict[str, Tensor]) -> None:
        tensors[f"{mlp}.gate_proj.weight_scale"][kept:] = 0

    def pruned(tensors: dict[str, Tensor]) -> None:
        for part in ("weight_packed", "weight_scale"):
            for name in (f"{mlp}.gate_proj.{part}", f"{mlp}.up_proj.{part}"):
                tensors[name] = tensors[name][:kept]
        for part, shorter in (("weight_packed", kept // 8), ("weight_scale", kept // 128)):
            tensors[f"{mlp}.down_proj.{part}"] = tensors[f"{mlp}.down_proj.{part}"][:, :shorter]
        for part in ("gate_proj", "up_proj", "down_proj"):
            tensors[f"{mlp}.{part}.weight_shape"] = torch.tensor([256, 256])

    expected = library_logits(rewrite_tensors(shutil.copytree(folder, tmp_path / "w"), without_neurons), IDS)
    loaded = load_compressed(rewrite_tensors(shutil.copytree(folder, tmp_path / "p"), pruned))
    torch.testing.assert_close(_logits(loaded.model), expected, rtol=0, atol=1e-5)
    assert loaded.notes == ("layers 1: intermediate_size 256, read off the tensors (config.json says 384)",)
