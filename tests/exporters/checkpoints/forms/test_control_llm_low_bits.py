"""Expanded checkpoints in compressed-tensors' low bits: equal to the reference of what their codes stand for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.quantization.linear import QuantizedLinear, unrounded_inputs
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError
from support.checkpoints import VOCABULARY
from support.effort import full_effort
from support.forms.control_llm_reference import ControlLlmReference
from support.forms.expanded_checkpoints import MERGE_METHODS, ONE_PAIR, expanded_checkpoint
from support.forms.expanded_low_bits import low_bits_of

IDS = torch.randint(0, VOCABULARY, (3, 17), generator=torch.Generator().manual_seed(1)).tolist()
MERGING = r"lm_head|interp_weight|gating|lateral|linear_proj"
"""Layers that llm-compressor is told to leave as they are, all but those of the two decoder layers."""


def off_by(source: Checkpoint, meant: Path) -> float:
    """Distance of logits to those of the reference, in float64, on the weights that codes stand for."""
    expected = torch.stack([ControlLlmReference(meant).logits(ids) for ids in IDS])
    with torch.no_grad(), unrounded_inputs(source.model):
        logits: Tensor = source.model(torch.tensor(IDS)).logits
    return float((logits - expected).abs().max())


def low_layers(source: Checkpoint) -> list[str]:
    return [name for name, part in source.model.named_modules() if isinstance(part, QuantizedLinear)]


@pytest.mark.parametrize("left", ["lm_head", MERGING], ids=["every layer", "but the merges"])
@pytest.mark.parametrize("merge_method", MERGE_METHODS)
def test_every_merge_equals_the_reference_of_its_codes(merge_method: str, left: str, tmp_path: Path) -> None:
    whole = expanded_checkpoint(tmp_path / "c", merge_method=merge_method)
    low, meant = low_bits_of(whole, tmp_path, left=left)
    source = load_checkpoint(low)
    assert off_by(source, meant) <= 3e-5
    assert off_by(source, whole) > 1e-2
    # two single layers and two pairs, seven matrices each
    merges = [name for name in low_layers(source) if "self_attn" not in name and "mlp" not in name]
    assert len(low_layers(source)) - len(merges) == 42
    has_merge = left == "lm_head" and merge_method in ("dlerp", "dlerpin", "moe", "prog")
    assert len(merges) == (2 if has_merge else 0)
    assert source.quantization is not None
    assert (source.quantization.method, source.quantization.format) == (
        "compressed-tensors",
        "pack-quantized",
    )


OTHERS: dict[str, dict[str, Any]] = {
    "hybrid": {"family": "qwen2", "expand_type": "hybrid", "merge_method": "dlerp"},
    "stack": {"family": "llama", "expand_type": "stack"},
    "relaxed norms": {"merge_method": "lerp", "norm_alpha": -1},
    "experts": {"family": "mixtral", "merge_method": "lerp"},
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_expansions_equal_it_too(case: str, tmp_path: Path) -> None:
    low, meant = low_bits_of(
        expanded_checkpoint(tmp_path / "c", **OTHERS[case]), tmp_path, left=r"lm_head|moe\.gate"
    )
    source = load_checkpoint(low)
    assert off_by(source, meant) <= 1e-4
    assert low_layers(source)


@pytest.mark.parametrize("merge_method", ["dlerp", "moe"])
def test_inputs_are_rounded_in_both_layers_of_a_pair_and_where_they_merge(
    merge_method: str, tmp_path: Path
) -> None:
    low, meant = low_bits_of(
        expanded_checkpoint(tmp_path / "c", merge_method=merge_method), tmp_path, rounded=True
    )
    source = load_checkpoint(low)
    assert off_by(source, meant) <= 3e-5
    layers = [source.model.get_submodule(name) for name in low_layers(source)]
    assert {layer.inputs for layer in layers} == {"int8 per token"}
    with torch.no_grad():
        rounded = source.model(torch.tensor(IDS)).logits
        with unrounded_inputs(source.model):
            whole = source.model(torch.tensor(IDS)).logits
    assert 0 < (rounded - whole).norm() / whole.norm() < 0.3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.layers.1.expanded_layer.mlp.up_proj.weight_scale", r"lacks tensor '.*up_proj\.weight_scale'"),
        ("model.layers.1.interp_weight.fc.bias", r"lacks tensor '.*interp_weight\.fc\.bias'"),
        (
            "model.layers.1.extra.weight",
            r"'model\.layers\.1\.extra\.weight', which config\.json: expansion has no",
        ),
        (
            "model.layers.1.extra.weight_scale",
            r"'model\.layers\.1\.extra', which its config has no place for",
        ),
    ],
)
def test_a_tensor_at_fault_is_named(name: str, said: str, tmp_path: Path) -> None:
    low, _ = low_bits_of(expanded_checkpoint(tmp_path / "c", merge_method="dlerp"), tmp_path)
    tensors = load_file(low / "model.safetensors")
    if tensors.pop(name, None) is None:
        tensors[name] = torch.ones(2, 2)
    save_file(tensors, low / "model.safetensors")
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(low)


@full_effort
@pytest.mark.parametrize(("merge_method", "rounded"), [("dlerp", False), ("moe", False), ("dlerp", True)])
def test_a_bundle_equals_it_in_every_mode(merge_method: str, rounded: bool, tmp_path: Path) -> None:
    whole = expanded_checkpoint(tmp_path / "c", merge_method=merge_method, layout=ONE_PAIR)
    low, _ = low_bits_of(whole, tmp_path, rounded=rounded)
    limits = {"max_prefix_tokens": 24, "max_item_tokens": 12}
    bundle = export(low, tmp_path / "b", kind="ranker", label_ids=(4, 5), **limits)
    assert bundle.manifest.quantization is not None
    assert bundle.manifest.quantization.by == "checkpoint"
    assert bundle.manifest.parity is not None
    assert max(mode.relative_error for mode in bundle.manifest.parity.modes) <= (1e-2 if rounded else 1e-5)
    assert verify(bundle.path, low).failures == ()
