"""Experts as a graph computes them equal those of transformers, in every form that they are stored in."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rankport.exporters.graphs.experts import traceable_experts
from rankport.exporters.graphs.weights import write_graphs
from rankport.runtime.bundle.manifest import Target
from support.experts import FAMILIES, Alone, graph_of, mixture, operators, run, tokens

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


def test_other_gates_have_every_expert_compute(tmp_path: Path) -> None:
    model, inputs = mixture("mixtral", hidden_act="gelu"), tokens(6)
    graph = graph_of(model, "onnx-cpu")
    assert "MoE" not in operators(graph)
    np.testing.assert_allclose(
        run(graph, tmp_path, *inputs), Alone(model).answer(*inputs), rtol=1e-4, atol=1e-4
    )


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
