"""The gate of experts, found by what their code computes."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.moe import use_experts_implementation

from rankport.exporters.graphs.experts.swiglu import SwiGLU, swiglu_of

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "num_local_experts": 4,
}
PLAIN = SwiGLU(alpha=1.0, beta=0.0, limit=None)


def experts_of(family: str, **options: Any) -> nn.Module:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES, **options))
    return next(part for part in model.modules() if hasattr(part, "has_gate"))


@use_experts_implementation
class Clamped(nn.Module):
    """Experts whose gate is clamped after its activation, as Step's are."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.down_proj = nn.Parameter(torch.zeros(2, 8, 4))

    def _apply_gate(self, joined: torch.Tensor) -> torch.Tensor:
        gate, up = joined.chunk(2, dim=-1)
        return nn.functional.silu(gate).clamp(max=7.0) * up.clamp(-7.0, 7.0)


class Sloped(nn.Module):
    """An activation of another slope in each place."""

    def forward(self, gate: torch.Tensor) -> torch.Tensor:
        return gate * torch.sigmoid(torch.linspace(1.0, 1.5, gate.shape[-1]) * gate)


def test_the_gate_of_most_families_is_plain() -> None:
    assert swiglu_of(experts_of("mixtral")) == PLAIN


def test_alpha_beta_and_limit_of_gpt_oss_are_found() -> None:
    assert swiglu_of(experts_of("gpt_oss", head_dim=8)) == SwiGLU(alpha=1.702, beta=1.0, limit=7.0)


@pytest.mark.parametrize("activation", ["gelu", "relu", "tanh"])
def test_another_activation_is_none(activation: str) -> None:
    assert swiglu_of(experts_of("mixtral", hidden_act=activation)) is None


def test_a_clamp_in_another_place_is_none() -> None:
    assert swiglu_of(Clamped(None)) is None


def test_a_gate_that_differs_by_place_is_none() -> None:
    experts = experts_of("mixtral")
    experts.act_fn = Sloped()
    assert swiglu_of(experts) is None


def test_it_computes_what_it_says() -> None:
    gate, up = torch.tensor([-9.0, 0.5, 9.0]), torch.tensor([8.0, -0.5, -8.0])
    gated = SwiGLU(alpha=1.702, beta=1.0, limit=7.0)(gate, up)
    expected = experts_of("gpt_oss", head_dim=8)._apply_gate(torch.stack([gate, up], dim=1).flatten())  # type: ignore[operator]
    torch.testing.assert_close(gated, expected)
