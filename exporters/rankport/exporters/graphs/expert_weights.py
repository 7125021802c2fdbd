"""Weights that routers give experts: whether they may be below 0, of which ONNX Runtime's operators know none.

They take logits, of whose softmax the weights are made. Routers give probabilities, which Gemma 4's multiplies by a
learned factor for each expert.
"""

from torch import nn

_FACTORS = "per_expert_scale"


def subtracts(model: nn.Module) -> bool:
    """Tells a model of which a router has a factor below 0: what that expert gives is taken off."""
    return any(
        name.rpartition(".")[2] == _FACTORS and bool((factors < 0).any())
        for name, factors in model.named_parameters()
    )
