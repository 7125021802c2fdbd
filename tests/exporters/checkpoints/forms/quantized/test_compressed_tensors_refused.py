"""compressed-tensors checkpoints that cannot be served are refused, by field of the config or by tensor."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rankport.protos.errors import CheckpointError
from support.forms.compressed_tensors_loading import LAYER, load_compressed
from support.forms.quantized_checkpoints import compressed_tensors, rewrite_quantization, rewrite_tensors


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
    "float6 format": (_group({"format": "mxfp6-pack-quantized"}), "format is 'mxfp6-pack-quantized'"),
    "float4 format of int4": (
        _group({"format": "nvfp4-pack-quantized"}),
        r"weights\.type is 'int', supported is 'float' of nvfp4-pack-quantized",
    ),
    "a format of nobody": (
        _whole({"format": "zip"}),
        r"quantization_config\.format is 'zip', supported are pack-q",
    ),
    "a slip": (_whole({"ignored": ["lm_head"]}), r"ignored is \['lm_head'\], .*: is 'ignore' meant"),
    "a word": (
        _group({"symmetric": "false"}, "weights"),
        r"weights\.symmetric is 'false', must be true or false",
    ),
    "groups of a channel": (
        _group({"strategy": "channel"}, "weights"),
        r"weights\.group_size is 128, supported is null of 'channel'",
    ),
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
    "1 bit": (_group({"num_bits": 1}, "weights"), rf"{GROUP}weights\.num_bits is 1, supported is 2 to 8"),
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
        load_compressed(folder)


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
        "FP8",
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
        r"layer 'model\.embed_tokens' is quantized and an Embedding: only Linear layers",
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
        load_compressed(folder)


def test_a_quantized_head_that_the_config_ties_is_refused(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "W8A8", ignore=())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    with pytest.raises(
        CheckpointError, match=r"'lm_head' is quantized on its own.*tie_word_embeddings to false"
    ):
        load_compressed(folder)
