"""Gated activations of experts: whether one is a SwiGLU, and which, as its own code computes it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BEYOND = 1e6  # any clamp lies below
_TOLERANCE = 1e-5
_STEPS = 33  # of gate and of up


@dataclass(frozen=True, slots=True)
class SwiGLU:
    """(up + beta) * gate * sigmoid(alpha * gate), of gate <= limit and -limit <= up <= limit.

    arXiv 2002.05202, section 2, has alpha 1 and beta 0; gpt-oss the others.
    """

    alpha: float
    beta: float
    limit: float | None

    def __call__(self, gate: Tensor, up: Tensor) -> Tensor:
        """Computes it; tensors of one shape."""
        if self.limit is not None:
            gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        return (up + self.beta) * gate * torch.sigmoid(self.alpha * gate)


def swiglu_of(experts: Any) -> SwiGLU | None:
    """Finds the SwiGLU that experts of transformers (`use_experts_implementation`) are gated by.

    Tried on numbers, since classes name its fields in many ways. None: they are gated by something else.
    """
    if not experts.has_gate:
        return None
    at_zero, at_one, beyond = _gated(experts, torch.ones(3), torch.tensor([0.0, 1.0, _BEYOND]))[:, 0].tolist()
    slope = at_one - at_zero
    if not 0 < slope < 1:
        return None
    beta = _neat(at_zero / slope)
    limit = _neat(beyond / slope - beta)
    found = SwiGLU(
        _neat(torch.logit(torch.tensor(slope)).item()), beta, limit if limit < _BEYOND / 2 else None
    )
    reach = 20.0 if found.limit is None else 3 * found.limit
    gate, up = (
        part.flatten() for part in torch.meshgrid(*[torch.linspace(-reach, reach, _STEPS)] * 2, indexing="ij")
    )
    expected = _gated(experts, gate, up)
    same = torch.allclose(found(gate, up)[:, None], expected, rtol=_TOLERANCE, atol=_TOLERANCE)
    return found if same else None


def _gated(experts: Any, gate: Tensor, up: Tensor) -> Tensor:
    """Has the experts' own code gate numbers [n] by numbers [n], in each place of their width. [n, width]"""
    width = experts.down_proj.shape[1 if experts.is_transposed else 2]
    pairs = torch.stack([gate, up], dim=1)
    joined = pairs.repeat_interleave(width, 1) if experts.is_concatenated else pairs.repeat(1, width)
    with torch.no_grad():
        gated: Tensor = experts._apply_gate(joined)
    return gated


def _neat(value: float) -> float:
    """Rounds to what a config says: float32 has more digits than a person writes."""
    return float(f"{value:.5g}")
