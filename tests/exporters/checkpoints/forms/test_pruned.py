"""Pruned checkpoints load by the widths of their tensors, equal to a forward by hand; contradictions are named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.forms import adapters, pruned

IDS = torch.arange(5, 22)
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {},  # biases on query, key and value
    "qwen3": {"head_dim": pruned.HEAD_DIM},  # a norm on each head
}
PER_LAYER: dict[str, Any] = {"kv_heads": {1: 1}, "intermediate": {0: 24, 2: 40}}
STATED = {"1": {"num_key_value_heads": 1, "num_attention_heads": 2}} | {
    "0": {"intermediate_size": 24},
    "2": {"intermediate_size": 40},
}


def source(tmp_path: Path, model_type: str = "llama", **overrides: Any) -> Path:
    """Four layers, heads and KV heads as `pruned` cuts them."""
    return checkpoints.causal_lm(
        tmp_path / "source",
        model_type,
        **{"num_hidden_layers": 4, **FAMILIES.get(model_type, {}), **overrides},
    )


def off(folder: Path) -> float:
    """Largest difference between the loaded checkpoint's logits and those by hand."""
    model = load_checkpoint(folder).model
    return float((adapters.outputs(model, IDS[None])[0] - pruned.forward(folder, IDS)).abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_forward_by_hand_is_the_models(family: str, tmp_path: Path) -> None:
    assert off(source(tmp_path, family)) <= 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_widths_that_differ_per_layer_are_read_off_the_tensors(family: str, tmp_path: Path) -> None:
    folder = pruned.prune(source(tmp_path, family), tmp_path / "pruned", **PER_LAYER)
    assert off(folder) <= 1e-4
    assert load_checkpoint(folder).notes == (
        "layers 0: intermediate_size 24, read off the tensors (config.json says 48)",
        "layers 1: num_attention_heads 2, read off the tensors (config.json says 4)",
        "layers 1: num_key_value_heads 1, read off the tensors (config.json says 2)",
        "layers 2: intermediate_size 40, read off the tensors (config.json says 48)",
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_widths_that_the_config_states_per_layer_are_loaded_as_stated(family: str, tmp_path: Path) -> None:
    folder = pruned.prune(
        source(tmp_path, family), tmp_path / "pruned", **PER_LAYER, config={"per_layer_config": STATED}
    )
    assert off(folder) <= 1e-4
    assert load_checkpoint(folder).notes == ()


def test_queries_pruned_without_their_keys_change_the_groups(tmp_path: Path) -> None:
    folder = source(tmp_path)
    tensors = StoredTensors.open(folder)
    parts = {"q_proj": 0, "o_proj": 1}
    names = {f"model.layers.2.self_attn.{part}.weight": axis for part, axis in parts.items()}
    pruned.edit_tensors(
        folder, {name: tensors.read(name).narrow(axis, 0, 16).clone() for name, axis in names.items()}
    )
    assert off(folder) <= 1e-4
    assert load_checkpoint(folder).notes == (
        "layers 2: num_attention_heads 2, read off the tensors (config.json says 4)",
    )


def test_a_classifier_and_a_bare_body_are_fitted_alike(tmp_path: Path) -> None:
    overrides = {"num_hidden_layers": 4, "num_labels": 3}
    folder = checkpoints.classifier(tmp_path / "source", "llama", **overrides)
    folder = pruned.prune(folder, tmp_path / "pruned", **PER_LAYER)
    headed, body = load_checkpoint(folder), load_checkpoint(folder, head="none")
    assert headed.head == "classification_head"
    assert body.notes == (*headed.notes, "left out: score, 1 tensor, no part of the body")
    assert len(headed.notes) == 4
    of_headed, of_body = (adapters.outputs(one.model.base_model, IDS[None]) for one in (headed, body))
    assert torch.equal(of_headed, of_body)


def test_dropped_layers_and_a_halved_feed_forward_are_an_ordinary_config(tmp_path: Path) -> None:
    folder = pruned.prune(
        source(tmp_path, "qwen3", tie_word_embeddings=True),
        tmp_path / "pruned",
        layers=3,
        intermediate=dict.fromkeys(range(4), 24),
        config={"num_hidden_layers": 3, "intermediate_size": 24, "layer_types": ["full_attention"] * 3},
    )
    assert off(folder) <= 1e-4
    assert load_checkpoint(folder).notes == ()


def test_layer_types_left_over_from_before_are_cut_if_all_are_alike(tmp_path: Path) -> None:
    folder = pruned.prune(
        source(tmp_path, "qwen3"), tmp_path / "pruned", layers=3, config={"num_hidden_layers": 3}
    )
    assert off(folder) <= 1e-4
    assert load_checkpoint(folder).notes == ("config.json lists 4 layer_types for 3 layers, all alike",)


def test_removed_groups_need_not_leave_a_divisor_of_the_hidden_size(tmp_path: Path) -> None:
    # 6 heads of 8 beside a hidden size of 64, which Llama's own config refuses.
    overrides = {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8}
    folder = pruned.prune(
        source(tmp_path, **overrides),
        tmp_path / "pruned",
        kv_heads=dict.fromkeys(range(4), 3),
        config={"num_attention_heads": 6, "num_key_value_heads": 3},
    )
    assert off(folder) <= 1e-4
    assert load_checkpoint(folder).notes == ()


def test_a_head_dim_that_the_config_leaves_out_is_read_off_the_tensors(tmp_path: Path) -> None:
    folder = pruned.prune(
        source(tmp_path),
        tmp_path / "pruned",
        kv_heads=dict.fromkeys(range(4), 1),
        config={"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": None},
    )
    assert off(folder) <= 1e-4
    assert load_checkpoint(folder).notes == (
        "heads are 8 wide, read off the tensors: config.json states no head_dim",
    )


def test_a_head_dim_that_the_tensors_leave_open_is_asked_for(tmp_path: Path) -> None:
    folder = pruned.prune(
        source(tmp_path), tmp_path / "pruned", kv_heads=dict.fromkeys(range(4), 1), config={"head_dim": None}
    )
    with pytest.raises(CheckpointError, match=r"states no head_dim.* \(8 or 4 would fit\): add the head_dim"):
        load_checkpoint(folder)


def test_fewer_layers_than_the_config_counts_are_refused_with_the_number(tmp_path: Path) -> None:
    folder = pruned.prune(source(tmp_path), tmp_path / "pruned", layers=3)
    with pytest.raises(
        CheckpointError, match="says num_hidden_layers 4 and the tensors hold 3 layers: set it to 3 if layers"
    ):
        load_checkpoint(folder)


def test_layers_that_run_several_times_are_stored_once(tmp_path: Path) -> None:
    """HRM counts its layers as often as they run, Dory each of them twice."""
    hrm = checkpoints.causal_lm(tmp_path / "hrm", "hrm_text", head_dim=8)
    dory = checkpoints.causal_lm(
        tmp_path / "dory", "dory", n_input_layers=1, n_output_layers=1, head_dim=8, num_hidden_layers=2
    )
    for folder in (hrm, dory):
        assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] > 2
        load_checkpoint(folder)


def test_layers_with_a_gap_are_refused_with_its_number(tmp_path: Path) -> None:
    folder = source(tmp_path)
    names = [name for name in StoredTensors.open(folder) if pruned.layer_of(name) == 1]
    pruned.edit_tensors(folder, dict.fromkeys(names))
    with pytest.raises(CheckpointError, match="hold 3 layers up to number 3, number 1 not among them"):
        load_checkpoint(folder)


LAYER = "model.layers.1"
CONTRADICTIONS: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "half a head": ({"self_attn.q_proj": torch.ones(12, 32)}, r"q_proj.*\[12, 32\].*multiple of head_dim 8"),
    "values unlike keys": (
        {"self_attn.v_proj": torch.ones(8, 32)},
        r"v_proj.*\[8, 32\], and k_proj beside it has 16",
    ),
    "output unlike queries": (
        {"self_attn.o_proj": torch.ones(32, 24)},
        r"o_proj.*\[32, 24\], and q_proj .* 32 rows",
    ),
    "groups that do not divide": (
        {"self_attn.q_proj": torch.ones(24, 32), "self_attn.o_proj": torch.ones(32, 24)},
        r"q_proj.*whose 3 heads are no multiple of the 2 of k_proj",
    ),
    "up unlike gate": (
        {"mlp.up_proj": torch.ones(24, 32)},
        r"up_proj.*\[24, 32\], and gate_proj beside it has 48",
    ),
    "down unlike gate": (
        {"mlp.down_proj": torch.ones(32, 24)},
        r"down_proj.*\[32, 24\], and gate_proj .* 48 rows",
    ),
    "a narrower residual": (
        {"mlp.gate_proj": torch.ones(48, 16)},
        r"gate_proj.*\[48, 16\].*expects 32 columns",
    ),
    "a narrower writer": ({"self_attn.o_proj": torch.ones(16, 32)}, r"o_proj.*\[16, 32\].*expects 32 rows"),
    "a narrower norm": ({"input_layernorm": torch.ones(16)}, r"input_layernorm.*\[16\].*expects \[32\]"),
    "a missing part": ({"mlp.up_proj": None}, r"lacks tensor 'model\.layers\.1\.mlp\.up_proj\.weight'"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_shapes_that_contradict_each_other_are_named(case: str, tmp_path: Path) -> None:
    changes, message = CONTRADICTIONS[case]
    folder = pruned.prune(source(tmp_path), tmp_path / "pruned", intermediate={0: 24})
    pruned.edit_tensors(folder, {f"{LAYER}.{part}.weight": tensor for part, tensor in changes.items()})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


PER_LAYER_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "not what is stored": (
        {"1": {"intermediate_size": 40}},
        "intermediate_size 40 for layer 1, .* have 48",
    ),
    "no width": ({"1": {"rms_norm_eps": 1e-3}}, "per_layer_config of layer 1 sets rms_norm_eps"),
    "skipped parts": ({"1": {"skip": ["mlp"], "intermediate_size": 40}}, "layer 1 sets skip"),
}


@pytest.mark.parametrize("case", PER_LAYER_ERRORS)
def test_a_per_layer_config_that_cannot_be_followed_is_refused(case: str, tmp_path: Path) -> None:
    stated, message = PER_LAYER_ERRORS[case]
    folder = source(tmp_path)
    pruned.edit_config(folder, per_layer_config=stated)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_a_stray_head_beside_tied_embeddings_passes_if_it_is_equal(tmp_path: Path) -> None:
    folder = pruned.prune(source(tmp_path, tie_word_embeddings=True), tmp_path / "pruned", **PER_LAYER)
    table = StoredTensors.open(folder).read("model.embed_tokens.weight")
    pruned.edit_tensors(folder, {"lm_head.weight": table.clone()})
    model: Any = load_checkpoint(folder).model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    pruned.edit_tensors(folder, {"lm_head.weight": table + 1})
    with pytest.raises(CheckpointError, match="different head beside them: remove the stray tensor"):
        load_checkpoint(folder)
