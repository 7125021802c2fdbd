"""Experts as a graph computes them equal those of transformers, in every form that they are stored in."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rankport.exporters.graphs.experts.traceable import traceable_experts
from rankport.exporters.graphs.weights import write_graphs
from rankport.exporters.quantization.quantize import quantize
from rankport.exporters.quantization.recipes import recipe_of
from rankport.runtime.bundle.manifest import Target
from support.experts import FAMILIES, Alone, Twice, graph_of, mixture, operators, run, tokens

IDS = torch.arange(3, 21).reshape(2, 9)
TARGET: Target = "onnx-cuda"  # where every expert computes every token


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_as_transformers_does(family: str) -> None:
    model = mixture(family)
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        with traceable_experts(model, TARGET):
            actual = model(input_ids=IDS).logits
        after = model(input_ids=IDS).logits
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    assert torch.equal(after, expected)  # transformers' own again


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cpu_has_the_operator_of_chosen_experts(family: str, tmp_path: Path) -> None:
    model, inputs = mixture(family), tokens(40)
    graph = graph_of(model, "onnx-cpu")
    assert operators(graph).count("MoE") == 1
    assert "MatMul" not in operators(graph)
    np.testing.assert_allclose(
        run(graph, tmp_path, *inputs), Alone(model).answer(*inputs), rtol=1e-4, atol=1e-4
    )


def test_their_weights_are_in_the_file_once(tmp_path: Path) -> None:
    model = mixture("gpt_oss")
    graph = graph_of(model, "onnx-cpu")
    write_graphs(tmp_path, {"experts": graph, "again": graph.clone()}, "weights.bin")
    stored = sum(part.nbytes for part in Alone(model).experts.parameters() if part.nbytes > 1024)
    assert stored <= (tmp_path / "weights.bin").stat().st_size < stored + 4 * 4096


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_a_layer_that_is_gone_through_twice_has_its_weights_once(family: str, tmp_path: Path) -> None:
    model, inputs = mixture(family, initializer_range=0.1), tokens(20)
    graph = graph_of(model, "onnx-cpu", Twice).clone()
    nodes = [node for node in graph.graph if node.op_type == "MoE"]
    assert len(nodes) == 2
    assert nodes[0].inputs[2] is nodes[1].inputs[2]
    np.testing.assert_allclose(
        run(graph, tmp_path, *inputs), Twice(model).answer(*inputs), rtol=1e-4, atol=1e-4
    )


def test_other_gates_have_every_expert_compute(tmp_path: Path) -> None:
    model, inputs = mixture("mixtral", hidden_act="gelu"), tokens(6)
    graph = graph_of(model, "onnx-cpu")
    assert "MoE" not in operators(graph)
    np.testing.assert_allclose(
        run(graph, tmp_path, *inputs), Alone(model).answer(*inputs), rtol=1e-4, atol=1e-4
    )


def gemma4(factor: float) -> torch.nn.Module:
    model = mixture("gemma4_text")
    with torch.no_grad():
        next(scale for name, scale in model.named_parameters() if name.endswith("per_expert_scale"))[1] = (
            factor
        )
    return model


@pytest.mark.parametrize(("factor", "has_operator"), [(0.5, True), (-0.5, False)], ids=["added", "taken off"])
def test_an_expert_that_is_taken_off_has_every_expert_compute(
    factor: float, has_operator: bool, tmp_path: Path
) -> None:
    model, (states, chosen, weights) = gemma4(factor), tokens(20)
    weights = torch.where(chosen == 1, factor, weights)
    graph = graph_of(model, "onnx-cpu")
    assert ("MoE" in operators(graph)) is has_operator
    np.testing.assert_allclose(
        run(graph, tmp_path, states, chosen, weights),
        Alone(model).answer(states, chosen, weights),
        rtol=1e-4,
        atol=1e-4,
    )
    facts = quantize(model, recipe_of("int8", "onnx-cpu"), None)
    assert ("experts" in [scheme.part for scheme in facts.schemes]) is has_operator


def test_an_expert_that_overflows_on_tokens_of_others_harms_none_of_them() -> None:
    model = mixture("mixtral")
    experts = Alone(model).experts
    states, chosen = torch.randn(3, 32), torch.tensor([[0, 1], [1, 2], [2, 0]])
    weights = torch.full((3, 2), 0.5)
    with torch.no_grad():
        experts.gate_up_proj[3] = float("inf")  # type: ignore[index, operator]
        expected = experts(states, chosen, weights)
        with traceable_experts(model, TARGET):
            actual = experts(states, chosen, weights)
    assert torch.isfinite(expected).all()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
