"""Checkpoints that Control LLM expanded load as what they are: equal to a forward pass written from the facts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rankport.exporters.checkpoints.forms import control_llm
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.kinds.decoders.module import DecoderModule
from rankport.exporters.kinds.decoders.survey import survey
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.exporters.quantization.quantize import quantize
from rankport.exporters.quantization.recipes import recipe_of
from rankport.protos.errors import CheckpointError
from support.checkpoints import VOCABULARY
from support.forms.control_llm_reference import ControlLlmReference
from support.forms.expanded_checkpoints import (
    FAMILIES,
    FFN,
    HIDDEN,
    LAYOUTS,
    MERGE_METHODS,
    expanded_checkpoint,
)

CLOSE = 3e-5
"""Of logits around 5, against a reference in float64: fp32's rounding over six layers."""
IDS = torch.randint(0, VOCABULARY, (3, 17), generator=torch.Generator().manual_seed(1)).tolist()


def load(folder: Path, head: Head = "lm_head") -> LoadedModel:
    opened = CheckpointFolder.open(folder)
    assert control_llm.matches(opened)
    return control_llm.load(opened, head)


def answer(folder: Path, ids: list[list[int]] = IDS) -> Tensor:
    with torch.no_grad():
        logits: Tensor = load(folder).model(torch.tensor(ids)).logits
    return logits


def off_by(folder: Path) -> float:
    expected = torch.stack([ControlLlmReference(folder).logits(ids) for ids in IDS])
    assert expected.std() > 0.5
    return float((answer(folder) - expected).abs().max())


@pytest.mark.parametrize("expand_type", ["concat", "hybrid"])
@pytest.mark.parametrize("merge_method", MERGE_METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_merge_of_every_family_equals_the_reference(
    family: str, merge_method: str, expand_type: str, tmp_path: Path
) -> None:
    assert off_by(expanded_checkpoint(tmp_path / "c", family, expand_type, merge_method)) <= CLOSE


@pytest.mark.parametrize(
    ("merge_method", "deciding"),
    [("dlerp", "interp_weight.fc"), ("dlerpin", "interp_weight.fc"), ("moe", "gating.gate_network.0")],
)
@pytest.mark.parametrize("recipe", ["int8", "int8-fine"])
def test_quantized_layers_are_merged_by_weights_in_full_precision(
    recipe: str, merge_method: str, deciding: str, tmp_path: Path
) -> None:
    folder = expanded_checkpoint(tmp_path / "c", "llama", "concat", merge_method)
    full = answer(folder)
    model = load(folder).model
    facts = quantize(model, recipe_of(recipe, "onnx-cpu"), None)
    assert type(model.get_submodule(f"model.layers.1.{deciding}")) is nn.Linear
    assert f"model.layers.1.{deciding}" in facts.kept
    with torch.no_grad():
        low = model(torch.tensor(IDS)).logits
    assert 0 < (low - full).norm() / full.norm() < 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_stacked_layers_equal_the_reference(family: str, tmp_path: Path) -> None:
    assert off_by(expanded_checkpoint(tmp_path / "c", family, "stack")) <= CLOSE


@pytest.mark.parametrize("norm_alpha", [-1, 0.3, 1])
@pytest.mark.parametrize("merge_method", MERGE_METHODS)
def test_relaxed_norms_equal_the_reference(merge_method: str, norm_alpha: float, tmp_path: Path) -> None:
    folder = expanded_checkpoint(tmp_path / "c", "llama", "hybrid", merge_method, norm_alpha=norm_alpha)
    assert off_by(folder) <= 1e-4  # states that no norm bounds saturate attention


def test_lerp_without_a_factor_answers_with_the_expanded_layer(tmp_path: Path) -> None:
    assert off_by(expanded_checkpoint(tmp_path / "c", factor=None)) <= CLOSE


def test_tied_bf16_tensors_equal_the_reference(tmp_path: Path) -> None:
    folder = expanded_checkpoint(
        tmp_path / "c", "qwen2", tied=True, dtype=torch.bfloat16, merge_method="dlerp"
    )
    assert off_by(folder) <= CLOSE


@pytest.mark.parametrize("merge_method", ["lerp", "slerp", "dlerp", "dlerpin", "moe", "proj"])
def test_an_expansion_before_training_answers_as_its_original(merge_method: str, tmp_path: Path) -> None:
    """The two layers of a pair are equal then: slerp's angles are 0, or what rounding makes of it."""
    folder = expanded_checkpoint(tmp_path / "c", merge_method=merge_method, twins=True)
    original = as_original(folder, tmp_path / "o")
    torch.testing.assert_close(answer(folder), answer(original), rtol=0, atol=1e-5)


def as_original(folder: Path, out: Path) -> Path:
    """The pretrained layers alone, as a stacked model of the original class."""
    tensors = load_file(folder / "model.safetensors")
    kept = {
        name.replace("pretrained_layer.", ""): one
        for name, one in tensors.items()
        if not any(part in name for part in ("expanded_layer", "interp", "gating", "linear_proj"))
    }
    out.mkdir()
    save_file(kept, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    config["expansion"]["expand_type"] = "stack"
    (out / "config.json").write_text(json.dumps(config))
    return out


@pytest.mark.parametrize("distance", [0.0, 1e-6, 1e-3])
def test_slerp_is_decided_for_each_token(distance: float, tmp_path: Path) -> None:
    """One sequence's tokens stand at small angles, another's do not: neither changes what the other answers."""
    folder = expanded_checkpoint(tmp_path / "c", merge_method="slerp", expand_type="hybrid", twins=True)
    edit_tensors(folder, lambda t: _move(t, distance))
    together = answer(folder, [IDS[0], IDS[1]])
    alone = torch.cat([answer(folder, [IDS[0]]), answer(folder, [IDS[1]])])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert load(folder).notes[1].startswith("slerp: tokens whose two states")


def _move(tensors: dict[str, Tensor], distance: float) -> None:
    name = "model.layers.2.expanded_layer.mlp.down_proj.weight"
    tensors[name] = tensors[name] + distance * torch.randn_like(tensors[name])


@pytest.mark.parametrize("expand_type", LAYOUTS)
def test_every_attention_of_a_pair_has_kv_of_its_own(expand_type: str, tmp_path: Path) -> None:
    model = load(expanded_checkpoint(tmp_path / "c", "qwen2", expand_type)).model
    facts = survey(DecoderModule(model, ReadOut("lm_head", (1, 2)), embeddings=False))
    assert len(facts.layers) == LAYOUTS[expand_type].attentions
    assert {(layer.kv_heads, layer.head_dim) for layer in facts.layers} == {(2, 8)}


def test_an_attention_of_a_pair_that_never_runs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(expanded_checkpoint(tmp_path / "c")).model
    pair = model.base_model.layers[3]  # type: ignore[union-attr, index]
    monkeypatch.setattr(pair, "forward", pair.pretrained_layer.forward)
    with pytest.raises(CheckpointError, match=r"layers \[5\] of LlamaForCausalLM do not go through"):
        survey(DecoderModule(model, ReadOut("lm_head", (1, 2)), embeddings=False))


def test_the_windows_of_sliding_layers_hold_for_both_layers_of_a_pair(tmp_path: Path) -> None:
    windowed = {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}
    model = load(expanded_checkpoint(tmp_path / "c", "qwen2", fields=windowed)).model
    windows = [part.sliding_window for part in model.modules() if hasattr(part, "layer_idx")]
    assert windows == [None, 24, 24, 24, 24, 24]  # layer 0, the pair 1, layer 2, the pair 3
    facts = survey(DecoderModule(model, ReadOut("lm_head", (1, 2)), embeddings=False))
    assert facts.windows == dict.fromkeys(range(1, 6), 24)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("named", ["CausalLMExpansion", "ModelExpansion"])
def test_a_class_name_without_a_family_is_resolved_by_the_fields(
    named: str, family: str, tmp_path: Path
) -> None:
    """Control LLM's own save_pretrained writes the name of its generic class."""
    folder = expanded_checkpoint(tmp_path / "c", family, fields={"architectures": [named]})
    assert load(folder).model.config.model_type == family  # type: ignore[union-attr]
    assert off_by(folder) <= CLOSE


def test_a_bare_body_is_loaded_without_the_head(tmp_path: Path) -> None:
    folder = expanded_checkpoint(tmp_path / "c", merge_method="dlerpin")
    with torch.no_grad():
        hidden = load(folder, "none").model(torch.tensor(IDS)).last_hidden_state
    expected = torch.stack([ControlLlmReference(folder).hidden(ids) for ids in IDS])
    assert (hidden - expected).abs().max() <= 1e-5


def test_a_model_merged_back_after_training_is_a_plain_one(tmp_path: Path) -> None:
    folder = as_original(expanded_checkpoint(tmp_path / "c"), tmp_path / "o")
    edit_expansion(folder, expand_type="concat", num_exp_layers=-2)
    assert off_by(folder) <= CLOSE


def test_an_ordinary_checkpoint_is_no_expansion(tmp_path: Path) -> None:
    folder = expanded_checkpoint(tmp_path / "c", expand_type="stack", fields={"expansion": {"factor": 2}})
    assert not control_llm.matches(CheckpointFolder.open(folder))


def edit_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_expansion(folder: Path, **changes: Any) -> None:
    expansion = json.loads((folder / "config.json").read_text())["expansion"] | changes
    edit_config(folder, expansion={key: value for key, value in expansion.items() if value != "absent"})


def edit_tensors(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _drop(part: str) -> Callable[[Path], None]:
    def drop(folder: Path) -> None:
        edit_tensors(folder, lambda t: [t.pop(name) for name in list(t) if part in name])

    return drop


EXPERT = "model.layers.1.expanded_layer.block_sparse_moe.experts.1"


def _mixture(folder: Path, change: Callable[[dict[str, Tensor]], object], **fields: object) -> None:
    """Makes the folder one of a family of mixtures, damaged."""
    shutil.rmtree(folder)
    expanded_checkpoint(folder, "mixtral", fields=fields)
    edit_tensors(folder, change)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "unknown expand type": (
        lambda c: edit_expansion(c, expand_type="parallel"),
        "expansion.expand_type is 'parallel', must be one of stack, concat, hybrid",
    ),
    "unknown merge method": (
        lambda c: edit_expansion(c, merge_method="ties"),
        "expansion.merge_method is 'ties', must be one of lerp, slerp",
    ),
    "no expansion": (lambda c: edit_config(c, expansion=None), "expansion is None, must be an object"),
    "frozen layer out of range": (
        lambda c: edit_expansion(c, freezed_layers=[0, 2, 4]),
        r"freezed_layers names layer 4, the model has layers 0 to 3 \(num_hidden_layers\)",
    ),
    "frozen layers of no numbers": (
        lambda c: edit_expansion(c, freezed_layers=["0"]),
        r"freezed_layers is \['0'\], must be a list of layer numbers",
    ),
    "no frozen layers": (
        lambda c: edit_expansion(c, freezed_layers="absent"),
        "freezed_layers is missing: it says which layers are expanded",
    ),
    "config against tensors": (
        lambda c: edit_expansion(c, freezed_layers=[0, 1, 2]),
        r"makes pairs of layers \[3\], the stored tensors of layers \[1, 3\]: correct expand_type or freezed_layers",
    ),
    "type against tensors": (
        lambda c: edit_expansion(c, expand_type="hybrid"),
        r"\(hybrid, freezed_layers \[0, 2\]\) makes pairs of layers \[3\], the stored tensors of layers \[1, 3\]",
    ),
    "half a pair": (
        _drop("layers.1.expanded_layer"),
        r"holds layers.1.pretrained_layer.\* and lacks layers.1.expanded_layer.\*",
    ),
    "a tensor of a pair": (
        _drop("layers.3.expanded_layer.mlp.up_proj.weight"),
        "lacks tensor 'model.layers.3.expanded_layer.mlp.up_proj.weight'",
    ),
    "the merge's tensor": (
        _drop("layers.3.interpolation_factor"),
        "lacks tensor 'model.layers.3.interpolation_factor'",
    ),
    "a factor that the config denies": (
        lambda c: edit_expansion(c, interpolation_factor=None),
        r"holds tensor 'model.layers.\d.interpolation_factor', which config.json: expansion has no place for",
    ),
    "tensors of another method": (
        lambda c: edit_expansion(c, merge_method="moe"),
        r"holds tensor 'model.layers.\d.interpolation_factor', which config.json: expansion has no place for",
    ),
    "norms without their factors": (
        lambda c: edit_expansion(c, interpolation_norm_alpha=-1),
        r"lacks tensor 'model.layers.1.expanded_layer.input_layernorm.interpolation_factor' \(4 missing",
    ),
    "a norm alpha that is no number": (
        lambda c: edit_expansion(c, interpolation_norm_alpha="auto"),
        "interpolation_norm_alpha is 'auto', must be a number",
    ),
    "another family": (
        lambda c: edit_config(c, architectures=["GemmaForCausalLMExpansion"]),
        r"architectures is \['GemmaForCausalLMExpansion'\], .* must be one of MixtralForCausalLMExpansion, Qwen2",
    ),
    "pairs in a model of the original type": (
        lambda c: edit_config(c, model_type="llama"),
        r"model_type is 'llama', and layers \[1, 3\] are stored as pairs: Control LLM writes 'causallmexpansion'",
    ),
    "an expert's matrix": (
        lambda c: _mixture(c, lambda t: t.pop(f"{EXPERT}.w3.weight")),
        f"lacks tensor '{EXPERT}.w3.weight': copy it again",
    ),
    "an expert of another width": (
        lambda c: _mixture(c, lambda t: t.update({f"{EXPERT}.w2.weight": torch.zeros(HIDDEN, 8)})),
        rf"tensor '{EXPERT}.w2.weight' has shape \[{HIDDEN}, 8\], and .*experts.0.w2.weight' \[{HIDDEN}, {FFN}\]",
    ),
    "an expert that the config does not count": (
        lambda c: _mixture(c, lambda t: None, num_local_experts=2),
        r"gate.weight' has shape \[3, 32\], the config expects \[2, 32\]",
    ),
    "an expert in 8 bits": (
        lambda c: _mixture(c, lambda t: t.update({f"{EXPERT}.w1.weight": torch.zeros(FFN, HIDDEN).char()})),
        f"tensor '{EXPERT}.w1.weight' is stored as int8 and nothing says its scale",
    ),
    "quantized": (
        lambda c: edit_config(c, quantization_config={"quant_method": "gptq"}),
        "quantization 'gptq' of an expanded model is not supported, 'compressed-tensors' is: export",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_wrong_is_named_with_the_fix(damage: str, tmp_path: Path) -> None:
    change, message = DAMAGE[damage]
    folder = expanded_checkpoint(tmp_path / "c")
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_a_body_passes_over_the_head_and_over_nothing_of_a_layer(tmp_path: Path) -> None:
    folder = expanded_checkpoint(tmp_path / "c")
    edit_expansion(folder, interpolation_factor=None)
    with pytest.raises(CheckpointError, match=r"holds tensor 'model.layers.\d.interpolation_factor'"):
        load(folder, "none")
