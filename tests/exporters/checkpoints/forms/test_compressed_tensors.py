"""compressed-tensors checkpoints load low-bit and equal the library that wrote them; what cannot be is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from rankport.exporters.checkpoints.forms import compressed_tensors as loader
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.protos.errors import CheckpointError
from support.forms.quantized_checkpoints import (
    W4A16_CHANNEL_ASYM,
    W8A16_CHANNEL,
    Scheme,
    compressed_tensors,
    library_logits,
    quiet,
    read_tensors,
    rewrite_quantization,
    rewrite_tensors,
)

IDS = torch.arange(3, 35)[None]
LAYER = "model.layers.1.mlp.down_proj"
INT8_STATIC = {
    "weights": QuantizationArgs(num_bits=8, type="int", strategy="tensor", symmetric=True),
    "input_activations": QuantizationArgs(num_bits=8, type="int", strategy="tensor", symmetric=True),
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


def _load(folder: Path, head: Head = "lm_head") -> LoadedModel:
    opened = CheckpointFolder.open(folder)
    assert loader.matches(opened)
    return loader.load(opened, head)


def _logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=IDS).logits
    return logits


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_checkpoint_equals_the_library_that_wrote_it_and_stays_low_bit(scheme: str, tmp_path: Path) -> None:
    arguments, others, facts = SCHEMES[scheme]
    folder = compressed_tensors(tmp_path / "c", arguments, **others)
    loaded = _load(folder)
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
    model = _load(folder).model
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
    loaded = _load(folder)
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
    layer = _load(folder).model.get_submodule(LAYER)
    assert isinstance(layer, QuantizedLinear)
    tensors = read_tensors(folder)
    packed = tensors[f"{LAYER}.weight_packed"].to(torch.int64)
    codes = ((packed[:, :, None] >> torch.arange(0, 32, 4)) & 15).flatten(1) - 8
    expected = codes * tensors[f"{LAYER}.weight_scale"].float()[:, groups_of.long()]
    assert torch.equal(layer.quantized.dequantized(), expected)


def test_a_group_index_of_minus_one_throughout_means_none(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "W4A16")
    expected = _logits(_load(folder).model)
    none = torch.full((384,), -1, dtype=torch.int32)
    rewrite_tensors(folder, lambda tensors: tensors.update({f"{LAYER}.weight_g_idx": none}))
    assert torch.equal(_logits(_load(folder).model), expected)


def test_zero_points_of_zeros_that_old_writers_add_are_dropped(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "FP8")
    expected = _logits(_load(folder).model)
    zeros = {
        f"{LAYER}.{part}_zero_point": torch.zeros(1).to(torch.float8_e4m3fn) for part in ("weight", "input")
    }
    rewrite_tensors(folder, lambda tensors: tensors.update(zeros))
    assert torch.equal(_logits(_load(folder).model), expected)


def test_a_quantized_head_is_kept_low_bit(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "W8A8", ignore=())
    model = _load(folder).model
    assert isinstance(model.get_submodule("lm_head"), QuantizedLinear)
    torch.testing.assert_close(_logits(model), library_logits(folder, IDS), rtol=0, atol=1e-5)


def test_a_stray_head_beside_tied_embeddings_is_accepted_if_equal_and_refused_if_not(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "W4A16", tie_word_embeddings=True)
    expected = _logits(_load(folder).model)
    table = read_tensors(folder)["model.embed_tokens.weight"]
    rewrite_tensors(folder, lambda tensors: tensors.update({"lm_head.weight": table.clone()}))
    assert torch.equal(_logits(_load(folder).model), expected)
    rewrite_tensors(folder, lambda tensors: tensors.update({"lm_head.weight": table + 1}))
    with pytest.raises(CheckpointError, match="holds a different head beside them: remove the stray tensor"):
        _load(folder)


def test_a_bare_body_loads_from_a_checkpoint_with_a_head(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "W8A8", ignore=("lm_head", "model.layers.0.mlp.up_proj"))
    body = _load(folder, "none").model
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
    loaded = _load(rewrite_tensors(shutil.copytree(folder, tmp_path / "p"), pruned))
    torch.testing.assert_close(_logits(loaded.model), expected, rtol=0, atol=1e-5)
    assert loaded.notes == ("layers 1: intermediate_size 256, read off the tensors (config.json says 384)",)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints to damage copies of."""
    folder = tmp_path_factory.mktemp("compressed-tensors")
    schemes = ("W4A16", "W4A16_ASYM", "W8A8", "FP8")
    return {scheme: compressed_tensors(folder / scheme, scheme) for scheme in schemes}


def _group(change: dict[str, Any], part: str | None = None) -> Callable[[dict[str, Any]], None]:
    def apply(stated: dict[str, Any]) -> None:
        group = stated["config_groups"]["group_0"]
        (group if part is None else group[part]).update(change)

    return apply


def _whole(change: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    return lambda stated: stated.update(change)


GROUP = r"quantization_config\.config_groups\.group_0\."
ASYMMETRIC_TOKENS = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True, "symmetric": False}
FIELDS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "sparse format": (
        _group({"format": "marlin-24"}),
        rf"{GROUP}format is 'marlin-24', supported are pack-q",
    ),
    "float4 format": (_group({"format": "nvfp4-pack-quantized"}), "format is 'nvfp4-pack-quantized'"),
    "fake quantized": (_group({"format": "dense"}), "format is 'dense'.*export the original"),
    "sparsity": (
        _whole({"sparsity_config": {"format": "sparse-24-bitmask"}}),
        "sparsity_config is .*sparse form",
    ),
    "transforms": (
        _whole({"transform_config": {"config_groups": {"R1": {}}}}),
        "transform_config is .*spinquant",
    ),
    "kv cache": (_whole({"kv_cache_scheme": {"num_bits": 8}}), "kv_cache_scheme is .*a quantized KV cache"),
    "no groups": (_whole({"config_groups": {}}), "config_groups is {}, must be an object"),
    "a preset's name": (
        _whole({"config_groups": {"W4A16": ["Linear"]}}),
        r"W4A16 is \['Linear'\], must be an obj",
    ),
    "a bad pattern": (
        _whole({"ignore": ["re:*lm_head"]}),
        r"ignore holds 're:\*lm_head', no regular expression",
    ),
    "3 bits": (_group({"num_bits": 3}, "weights"), rf"{GROUP}weights\.num_bits is 3, supported is 4 or 8"),
    "float 4": (_group({"type": "float"}, "weights"), r"weights\.num_bits is 4, supported is .* 8 of float"),
    "unknown type": (_group({"type": "posit"}, "weights"), r"weights\.type is 'posit'"),
    "blocks": (_group({"strategy": "block"}, "weights"), r"weights\.strategy is 'block'"),
    "no group size": (_group({"group_size": None}, "weights"), r"weights\.group_size is None"),
    "unknown field": (_group({"codebook": 7}, "weights"), r"weights\.codebook is unknown"),
    "outputs": (_group({"output_activations": {"num_bits": 8}}), "output_activations is"),
    "no weights": (_group({"weights": None}), "weights is None, must be an object"),
    "int4 inputs": (
        _group({"input_activations": {"num_bits": 4, "type": "int", "strategy": "token", "dynamic": True}}),
        r"input_activations is .*'num_bits': 4.*supported are int8, token, dynamic",
    ),
    "inputs by batch": (
        _group({"input_activations": {"num_bits": 8, "strategy": "tensor", "dynamic": True}}),
        "input_activations is .*'tensor', 'dynamic': True.*supported are",
    ),
    "asymmetric inputs": (
        _group({"input_activations": ASYMMETRIC_TOKENS}),
        "symmetric is False, supported is true",
    ),
    "other targets": (
        _group({"targets": ["re:.*q_proj"]}),
        r"weight_scale' says .* is quantized, and no scheme",
    ),
    "too many targets": (
        _whole({"ignore": []}),
        r"targets covers layer 'lm_head', and .* lacks .*lm_head\.weight_sc",
    ),
    "other groups": (
        _group({"group_size": 64}, "weights"),
        r"weight_scale' has shape .*, the config expects",
    ),
    "group too long": (
        _group({"group_size": 80}, "weights"),
        "input channels, which group_size 80 does not divide",
    ),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_config_that_cannot_be_served_is_refused_by_its_field(
    field: str, sound: dict[str, Path], tmp_path: Path
) -> None:
    change, message = FIELDS[field]
    folder = rewrite_quantization(shutil.copytree(sound["W4A16"], tmp_path / "c"), change)
    with pytest.raises(CheckpointError, match=message):
        _load(folder)


def _drop(part: str) -> Callable[[dict[str, Tensor]], None]:
    def apply(tensors: dict[str, Tensor]) -> None:
        del tensors[f"{LAYER}.{part}"]

    return apply


def _change(part: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], None]:
    def apply(tensors: dict[str, Tensor]) -> None:
        tensors[f"{LAYER}.{part}"] = change(tensors[f"{LAYER}.{part}"])

    return apply


def _add(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({name: tensor})


DAMAGES: dict[str, tuple[str, Callable[[dict[str, Tensor]], None], str]] = {
    "no scale": ("W4A16", _drop("weight_scale"), rf"lacks tensor '{LAYER}\.weight_scale'"),
    "no codes": ("W4A16", _drop("weight_packed"), rf"lacks tensor '{LAYER}\.weight_packed'"),
    "no shape": ("W4A16", _drop("weight_shape"), rf"lacks tensor '{LAYER}\.weight_shape'"),
    "no zero points": (
        "W4A16_ASYM",
        _drop("weight_zero_point"),
        rf"lacks tensor '{LAYER}\.weight_zero_point'",
    ),
    "no input scale": ("FP8", _drop("input_scale"), rf"lacks tensor '{LAYER}\.input_scale'"),
    "no plain codes": ("W8A8", _drop("weight"), rf"lacks tensor '{LAYER}\.weight'"),
    "another true shape": (
        "W4A16",
        _change("weight_shape", lambda one: one - 8),
        r"weight_shape' holds \[248, 376\], the config expects \[256, 384\]",
    ),
    "short codes": (
        "W4A16",
        _change("weight_packed", lambda one: one[:, :-1]),
        r"weight_packed' has shape \[256, 47\], the config expects \[256, 48\]",
    ),
    "short zero points": (
        "W4A16_ASYM",
        _change("weight_zero_point", lambda one: one[:-1]),
        r"weight_zero_point' has shape \[31, 3\], the config expects \[32, 3\]",
    ),
    "scales of another layer": (
        "W8A8",
        _change("weight_scale", lambda one: one[:8]),
        r"weight_scale' has shape \[8, 1\], the config expects \[256, 1\]",
    ),
    "two scales a tensor": (
        "FP8",
        _change("weight_scale", lambda one: one.expand(2)),
        r"has shape \[2\], .* \[1\]",
    ),
    "NaN scale": ("W8A8", _change("weight_scale", lambda one: one * float("nan")), "weight_scale' holds NaN"),
    "negative scale": (
        "W8A8",
        _change("weight_scale", lambda one: one - 9),
        "holds a scale of -.* never negative",
    ),
    "zero input scale": (
        "FP8",
        _change("input_scale", lambda one: one * 0),
        "input_scale' holds zeros only: scales must be above 0",
    ),
    "codes in full precision": (
        "W8A8",
        _change("weight", lambda one: one.float()),
        r"weight' is stored as float32, the config expects int8",
    ),
    "float8 of another layout": (
        "FP8",
        _change("weight", lambda one: one.float().to(torch.float8_e5m2)),
        r"stored as float8_e5m2, the config expects float8_e4m3fn",
    ),
    "group out of range": (
        "W4A16",
        _add(f"{LAYER}.weight_g_idx", torch.full((384,), 3, dtype=torch.int32)),
        r"weight_g_idx' holds group 3, the scales have 3 groups",
    ),
    "zero points against the config": (
        "W8A8",
        _add(f"{LAYER}.weight_zero_point", torch.ones(256, 1, dtype=torch.int8)),
        "weight_zero_point' holds zero points, and the config says symmetric",
    ),
    "a quantized embedding table": (
        "W8A8",
        _add("model.embed_tokens.weight_scale", torch.ones(101, 1)),
        r"layer 'model\.embed_tokens' is quantized and a Embedding: only Linear layers",
    ),
    "a layer without a place": (
        "W8A8",
        _add("model.layers.9.mlp.up_proj.weight_scale", torch.ones(101, 1)),
        r"quantized layer 'model\.layers\.9\.mlp\.up_proj', which its config has no place for",
    ),
    "a tensor without a place": (
        "W8A8",
        _add(f"{LAYER}.k_scale", torch.ones(1)),
        r"down_proj\.k_scale', which its",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_tensor_is_named(damage: str, sound: dict[str, Path], tmp_path: Path) -> None:
    scheme, change, message = DAMAGES[damage]
    folder = rewrite_tensors(shutil.copytree(sound[scheme], tmp_path / "c"), change)
    with pytest.raises(CheckpointError, match=message):
        _load(folder)


def test_a_quantized_head_that_the_config_ties_is_refused(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "W8A8", ignore=())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    with pytest.raises(
        CheckpointError, match=r"'lm_head' is quantized on its own.*tie_word_embeddings to false"
    ):
        _load(folder)
