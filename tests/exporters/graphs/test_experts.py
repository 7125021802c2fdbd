"""Experts as a graph computes them equal those of transformers, in every form that they are stored in."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rankport.exporters.graphs.experts import traceable_experts

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
        with traceable_experts(model):
            actual = model(input_ids=IDS).logits
        after = model(input_ids=IDS).logits
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    assert torch.equal(after, expected)  # transformers' own again


def test_an_expert_that_overflows_on_tokens_of_others_harms_none_of_them() -> None:
    model = make("mixtral")
    experts = next(part for part in model.modules() if hasattr(part, "gate_up_proj"))
    states, chosen = torch.randn(3, 32), torch.tensor([[0, 1], [1, 2], [2, 0]])
    weights = torch.full((3, 2), 0.5)
    with torch.no_grad():
        experts.gate_up_proj[3] = float("inf")  # type: ignore[index, operator]
        expected = experts(states, chosen, weights)
        with traceable_experts(model):
            actual = experts(states, chosen, weights)
    assert torch.isfinite(expected).all()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
