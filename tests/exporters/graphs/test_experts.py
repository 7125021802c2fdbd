"""Experts as a graph computes them equal those of transformers, in every form that they are stored in."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from rankport.exporters.graphs.experts import traceable_experts
from rankport.exporters.graphs.trace import trace
from rankport.exporters.graphs.weights import write_graphs
from rankport.runtime.bundle.manifest import Target

TARGET: Target = "onnx-cuda"  # where every expert computes every token
IDS = torch.arange(3, 21).reshape(2, 9)
_BASE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "num_experts_per_tok": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8},
    "mixtral": {"num_local_experts": 4},
    "gpt_oss": {"num_local_experts": 4, "head_dim": 8},  # transposed, interleaved, with biases
    "glm4_moe": {
        "n_routed_experts": 4,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 0,
        "head_dim": 8,
    },
}


def make(family: str) -> torch.nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **_BASE, **FAMILIES[family])
    model: torch.nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("proj_bias"):
                parameter.normal_()
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_as_transformers_does(family: str) -> None:
    model = make(family)
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        with traceable_experts(model, TARGET):
            actual = model(input_ids=IDS).logits
        after = model(input_ids=IDS).logits
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    assert torch.equal(after, expected)  # transformers' own again


class Alone(nn.Module):
    """The experts of a model by themselves."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.experts: nn.Module = next(
            part for part in model.modules() if hasattr(part, "has_post_expert_norm")
        )

    def forward(self, states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        mixed: Tensor = self.experts(states, chosen, weights)
        return mixed


def graph_of(model: nn.Module, target: Target) -> ir.Model:
    arguments = {"states": torch.randn(5, 32), "chosen": torch.zeros(5, 2, dtype=torch.int64)}
    arguments |= {"weights": torch.rand(5, 2)}
    axes: dict[str, list[str | int]] = {
        "states": ["tokens", 32],
        "chosen": ["tokens", 2],
        "weights": ["tokens", 2],
    }
    with traceable_experts(model, target):
        return trace(Alone(model), arguments, axes, ["mixed"])


def run(graph: ir.Model, folder: Path, *inputs: Tensor) -> NDArray[np.float32]:
    write_graphs(folder, {"experts": graph}, "weights.bin")
    session = onnxruntime.InferenceSession(folder / "experts.onnx", providers=["CPUExecutionProvider"])
    feeds = {value.name: tensor.numpy() for value, tensor in zip(session.get_inputs(), inputs, strict=True)}
    mixed: NDArray[np.float32] = session.run(None, feeds)[0]
    return mixed


def operators(graph: ir.Model) -> list[str]:
    return [node.op_type for node in graph.graph]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cpu_has_the_operator_of_chosen_experts(family: str, tmp_path: Path) -> None:
    model = make(family)
    states = 3 * torch.randn(40, 32)
    chosen = torch.rand(40, 4).topk(2).indices
    weights = torch.rand(40, 2)
    weights[0] = 0  # a token of padding, say
    weights[1, 0] = 1e-30
    with torch.no_grad():
        expected = Alone(model)(states, chosen, weights)
    graph = graph_of(model, "onnx-cpu")
    assert operators(graph).count("MoE") == 1
    assert "MatMul" not in operators(graph)
    np.testing.assert_allclose(run(graph, tmp_path, states, chosen, weights), expected, rtol=1e-4, atol=1e-4)


def test_their_weights_are_in_the_file_once(tmp_path: Path) -> None:
    model = make("gpt_oss")
    graph = graph_of(model, "onnx-cpu")
    write_graphs(tmp_path, {"experts": graph, "again": graph.clone()}, "weights.bin")
    experts = Alone(model).experts
    stored = sum(part.nbytes for part in experts.parameters() if part.nbytes > 1024)
    assert stored <= (tmp_path / "weights.bin").stat().st_size < stored + 4 * 4096


def test_other_gates_have_every_expert_compute(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("mixtral", **_BASE, **FAMILIES["mixtral"], hidden_act="gelu")
    model = AutoModelForCausalLM.from_config(config).eval()
    graph = graph_of(model, "onnx-cpu")
    assert "MoE" not in operators(graph)
    states, chosen, weights = torch.randn(6, 32), torch.rand(6, 4).topk(2).indices, torch.rand(6, 2)
    with torch.no_grad():
        expected = Alone(model)(states, chosen, weights)
    np.testing.assert_allclose(run(graph, tmp_path, states, chosen, weights), expected, rtol=1e-4, atol=1e-4)


def test_an_expert_that_overflows_on_tokens_of_others_harms_none_of_them() -> None:
    model = make("mixtral")
    experts = next(part for part in model.modules() if hasattr(part, "gate_up_proj"))
    states, chosen = torch.randn(3, 32), torch.tensor([[0, 1], [1, 2], [2, 0]])
    weights = torch.full((3, 2), 0.5)
    with torch.no_grad():
        experts.gate_up_proj[3] = float("inf")  # type: ignore[index, operator]
        expected = experts(states, chosen, weights)
        with traceable_experts(model, TARGET):
            actual = experts(states, chosen, weights)
    assert torch.isfinite(expected).all()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
