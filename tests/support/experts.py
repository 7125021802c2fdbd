"""Experts of transformers' families by themselves, traced and run."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from rankport.exporters.graphs.experts.traceable import traceable_experts
from rankport.exporters.graphs.trace import trace
from rankport.exporters.graphs.weights import write_graphs
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.runtime.bundle.manifest import Target

HIDDEN, CHOSEN = 32, 2
_BASE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "num_experts_per_tok": CHOSEN,
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
OTHERS: dict[str, dict[str, Any]] = {
    "nemotron_h": {  # without a gate
        "layers_block_type": ["moe"],
        "n_routed_experts": 4,
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 16,
        "n_group": 1,
        "topk_group": 1,
    },
    "gemma4_text": {  # gated by GELU, but for what a test says
        "layer_types": ["full_attention"],
        "num_kv_shared_layers": 0,
        "head_dim": 8,
        "global_head_dim": 8,
        "hidden_size_per_layer_input": 0,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 16,
        "hidden_activation": "silu",
    },
}


def mixture(family: str, **options: Any) -> nn.Module:
    """Makes a model of one layer of four experts."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(_BASE | (FAMILIES | OTHERS)[family] | options))
    model: nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("proj_bias"):
                parameter.normal_()
    return model


class Alone(nn.Module):
    """The experts of a model by themselves."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.experts: nn.Module = next(
            part for part in model.modules() if hasattr(part, "has_post_expert_norm")
        )

    def forward(self, states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Maps [tokens, hidden], with [tokens, chosen] twice, -> [tokens, hidden]."""
        mixed: Tensor = self.experts(states, chosen, weights)
        return mixed

    @torch.no_grad()
    def answer(self, *inputs: Tensor) -> NDArray[np.float32]:
        """Computes it by transformers' own code."""
        answer: NDArray[np.float32] = self(*inputs).numpy()
        return answer


class Twice(Alone):
    """The experts of a model, which a token goes through twice."""

    def forward(self, states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Maps as once."""
        return super().forward(super().forward(states, chosen, weights), chosen, weights)


def tokens(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draws states, chosen experts and their weights, one of them of padding, one next to nothing."""
    weights = torch.rand(count, CHOSEN)
    weights[0] = 0
    weights[1, 0] = 1e-30
    return 3 * torch.randn(count, HIDDEN), torch.rand(count, 4).topk(CHOSEN).indices, weights


def graph_of(model: nn.Module, target: Target, of: type[Alone] = Alone) -> ir.Model:
    """Traces the experts of a model."""
    names = ("states", "chosen", "weights")
    arguments = dict(zip(names, tokens(5), strict=True))
    axes: dict[str, list[str | int]] = {name: ["tokens", arguments[name].shape[1]] for name in names}
    with graph_kernels(model, target), traceable_experts(model, target):
        return trace(of(model), arguments, axes, ["mixed"])


def run(graph: ir.Model, folder: Path, *inputs: Tensor) -> NDArray[np.float32]:
    """Runs it by ONNX Runtime, from files."""
    write_graphs(folder, {"experts": graph}, "weights.bin")
    session = onnxruntime.InferenceSession(folder / "experts.onnx", providers=["CPUExecutionProvider"])
    feeds = {value.name: tensor.numpy() for value, tensor in zip(session.get_inputs(), inputs, strict=True)}
    mixed: NDArray[np.float32] = session.run(None, feeds)[0]
    return mixed


def operators(graph: ir.Model) -> list[str]:
    """Lists the operators of a graph."""
    return [node.op_type for node in graph.graph]
