"""Experts in low bits: what transformers computes with the weights that the codes stand for, a CPU's graph computes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rankport.exporters.quantization.experts import LowBitExperts, low_bits_of
from rankport.exporters.quantization.quantize import quantize
from rankport.exporters.quantization.recipes import Choices, Recipe, recipe_of
from rankport.exporters.quantization.rounding import round_to_nearest
from support.experts import FAMILIES, Alone, graph_of, mixture, operators, run, tokens

INT8, INT4 = recipe_of("int8", "onnx-cpu"), recipe_of("int4", "onnx-cpu")


def experts_of(model: nn.Module) -> nn.Module:
    return Alone(model).experts


def name_of(model: nn.Module) -> str:
    experts = experts_of(model)
    return next(name for name, part in model.named_modules() if part is experts)


@pytest.mark.parametrize("recipe", [INT8, INT4], ids=["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_graph_computes_what_the_codes_stand_for(family: str, recipe: Recipe, tmp_path: Path) -> None:
    model, inputs = mixture(family), tokens(40)
    full = Alone(model).answer(*inputs)
    quantize(model, recipe, None)
    rounded = Alone(model).answer(*inputs)
    graph = graph_of(model, "onnx-cpu")
    assert operators(graph).count("QMoE") == 1
    np.testing.assert_allclose(run(graph, tmp_path, *inputs), rounded, rtol=1e-4, atol=1e-4)
    off = np.linalg.norm(rounded - full) / np.linalg.norm(full)
    assert 1e-4 < off < {8: 0.02, 4: 0.2}[recipe.bits]


def test_codes_take_a_byte_a_weight_of_the_file(tmp_path: Path) -> None:
    model = mixture("mixtral")
    full = experts_of(model).gate_up_proj.numel() + experts_of(model).down_proj.numel()  # type: ignore[operator]
    facts = quantize(model, INT8, None)
    run(graph_of(model, "onnx-cpu"), tmp_path, *tokens(3))
    assert full <= (tmp_path / "weights.bin").stat().st_size < 1.3 * full
    scheme = next(scheme for scheme in facts.schemes if scheme.part == "experts")
    assert (scheme.layers, scheme.weights, scheme.bits, scheme.activations) == (1, full, 8, "none")
    assert name_of(model) not in facts.kept


def test_matrices_of_different_bits_are_not_taken_for_one_operator() -> None:
    of_8, of_4 = (round_to_nearest(torch.randn(8, 32), recipe, None) for recipe in (INT8, INT4))
    assert LowBitExperts.of(of_8, of_8) is not None
    assert LowBitExperts.of(of_8, of_4) is None


def test_four_bits_have_groups_that_divide_both_widths() -> None:
    model = mixture("mixtral", intermediate_size=48)  # 32 and 48
    quantize(model, INT4, None)
    low_bits = low_bits_of(experts_of(model))
    assert low_bits is not None
    assert low_bits.group == 16


@pytest.mark.parametrize(
    ("family", "options"),
    [("mixtral", {"intermediate_size": 40}), ("mixtral", {"hidden_act": "gelu"}), ("nemotron_h", {})],
    ids=["groups", "gate", "no gate"],
)
def test_experts_that_no_operator_takes_stay(family: str, options: dict[str, int | str]) -> None:
    model = mixture(family, **options)
    facts = quantize(model, INT4, None)
    assert low_bits_of(experts_of(model)) is None
    assert name_of(model) in facts.kept


def test_experts_of_weights_far_above_the_others_stay() -> None:
    model = mixture("mixtral")
    with torch.no_grad():
        experts_of(model).down_proj[..., 0] = 50.0  # type: ignore[index, operator]
    assert name_of(model) in quantize(model, INT8, None).kept


@pytest.mark.parametrize(
    "recipe", [recipe_of("int8", "onnx-cuda"), recipe_of("fp8", "onnx-cpu")], ids=["cuda", "fp8"]
)
def test_targets_and_recipes_without_an_operator_leave_them(recipe: Recipe) -> None:
    model = mixture("mixtral")
    assert name_of(model) in quantize(model, recipe, None).kept


def test_a_proof_repeats_what_its_bundle_says() -> None:
    model = mixture("mixtral")
    repeats = Choices(frozenset({name_of(model)}), loud_table=False)
    quantize(model, replace(INT8, repeats=repeats), None)
    assert low_bits_of(experts_of(model)) is None
