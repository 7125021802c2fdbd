"""Experts and routers of a model: where they are, and whether a router's weights may be below 0.

ONNX Runtime's operators know no such weights: they take logits, of whose softmax the weights are made. Routers give
probabilities, which Gemma 4's multiplies by a learned factor for each expert.
"""

from torch import nn

_FACTORS = "per_expert_scale"


def all_experts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Finds the experts of a model by name, which keep the matrices of a layer in two parameters."""
    return [(name, part) for name, part in model.named_modules() if hasattr(part, "has_post_expert_norm")]


def subtracts(model: nn.Module) -> bool:
    """Tells a model of which a router has a factor below 0: what that expert gives is taken off."""
    return any(
        name.rpartition(".")[2] == _FACTORS and bool((factors < 0).any())
        for name, factors in model.named_parameters()
    )
