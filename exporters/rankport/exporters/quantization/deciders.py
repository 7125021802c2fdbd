"""Linear layers that stay in full precision: their few outputs decide what whole states become."""

from torch import nn

_MARK = "decides"


def decider(layer: nn.Linear) -> nn.Linear:
    """Marks a layer as one, and gives it back. A merge reads its weight as it is."""
    setattr(layer, _MARK, True)
    return layer


def is_decider(layer: nn.Module) -> bool:
    """Tells a layer that was marked."""
    return bool(getattr(layer, _MARK, False))
