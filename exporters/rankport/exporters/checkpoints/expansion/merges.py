"""Layers that run twice, as trained before and as expanded, and the ways to merge what both answer.

Parameters carry the names under which Control LLM stores them. Every merge is row-wise: what a token's states become
depends on that token alone, so that tokens of several items may share a pass.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class ExpandedLayer(nn.Module):
    """Two decoder layers on the same input, each with its residuals and its attention; `merge` is the method's."""

    note: ClassVar[str | None] = None
    unread: ClassVar[tuple[str, ...]] = ()
    """Layers stored beside the two and used in training only."""

    def __init__(self, pretrained: nn.Module, expanded: nn.Module, hidden: int, *, factor: bool) -> None:
        super().__init__()
        self.pretrained_layer = pretrained
        self.expanded_layer = expanded
        self.add_weights(hidden, factor)

    def add_weights(self, hidden: int, factor: bool) -> None:
        """Allocates what the method stores; `factor` is whether the config has an interpolation factor."""
        self.interpolation_factor = _undefined(1)

    def forward(self, states: Tensor, **kwargs: object) -> Tensor:
        """Maps [batch, tokens, hidden] to the same, as a decoder layer; `kwargs` go to both layers."""
        pretrained = self.pretrained_layer(states, **kwargs)
        return self.merge(states, pretrained, self.expanded_layer(states, **kwargs))

    def merge(self, states: Tensor, pretrained: Tensor, expanded: Tensor) -> Tensor:
        """Merges input states and both layers' answers, each [batch, tokens, hidden], to one answer of that shape."""
        raise NotImplementedError

    def share(self) -> Tensor:
        """Gives t = sigmoid(interpolation_factor), the share of the expanded layer. [1]"""
        return torch.sigmoid(self.interpolation_factor)


class LerpLayer(ExpandedLayer):
    """h_p + t (h_e - h_p); without an interpolation factor, h_e."""

    def add_weights(self, hidden: int, factor: bool) -> None:
        """Adds one number, or none."""
        self.interpolation_factor = _undefined(1) if factor else None  # type: ignore[assignment]

    def merge(self, states: Tensor, pretrained: Tensor, expanded: Tensor) -> Tensor:
        """See the class."""
        if self.interpolation_factor is None:
            return expanded
        return pretrained + self.share() * (expanded - pretrained)


class ProjLayer(ExpandedLayer):
    """Lerp. Its projection serves the loss of training and no answer."""

    unread = ("linear_proj",)

    def merge(self, states: Tensor, pretrained: Tensor, expanded: Tensor) -> Tensor:
        """See the class."""
        return pretrained + self.share() * (expanded - pretrained)


class SlerpLayer(ExpandedLayer):
    """(sin((1 - t) θ) h_p + sin(t θ) h_e) / s for a token whose states stand at an angle θ, s = √(sin² θ + 1e-8).

    A token with θ < 1e-4 gets (1 - t) h_p + t h_e. This deviates from Control LLM, where one such token turns the whole
    tensor to lerp: an item's score would depend on the items beside it.

    θ = 2 atan(|u - v| / |u + v|) of the unit vectors u, v (Kahan, "How futile are mindless assessments of roundoff",
    2006, section 12). It equals acos(u · v), which loses half of fp32's digits near 0, where the two layers of a
    lightly trained pair stand.
    """

    note = (
        "slerp: tokens whose two states are closer than 1e-4 rad are merged linearly, each token by itself; Control "
        "LLM then merges all tokens of a batch linearly, which makes a score depend on its batch"
    )
    _SMALLEST_ANGLE: ClassVar[float] = 1e-4

    def merge(self, states: Tensor, pretrained: Tensor, expanded: Tensor) -> Tensor:
        """See the class."""
        u, v = _unit(pretrained), _unit(expanded)
        angle = 2 * torch.atan(_norm(u - v) / _norm(u + v).clamp(min=1e-12))
        sine = torch.sqrt(torch.sin(angle).square() + 1e-8)
        share = self.share()
        aligned = angle < self._SMALLEST_ANGLE
        of_pretrained = torch.where(aligned, 1 - share, torch.sin((1 - share) * angle) / sine)
        of_expanded = torch.where(aligned, share, torch.sin(share * angle) / sine)
        return of_pretrained * pretrained + of_expanded * expanded


class _Weighing(nn.Module):
    """Holds `fc`, one output of several features."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.fc = _undefined_linear(features, 1)


class DlerpLayer(ExpandedLayer):
    """h_p + w (h_e - h_p), w = sigmoid(fc [h_p; h_e]) per token."""

    def add_weights(self, hidden: int, factor: bool) -> None:
        """Adds fc: 2 hidden -> 1."""
        self.interp_weight = _Weighing(2 * hidden)

    def merge(self, states: Tensor, pretrained: Tensor, expanded: Tensor) -> Tensor:
        """See the class."""
        fc = self.interp_weight.fc
        if not isinstance(fc, nn.Linear):  # in low bits: inputs may be rounded by a scale of both states
            return pretrained + torch.sigmoid(fc(torch.cat((pretrained, expanded), -1))) * (
                expanded - pretrained
            )
        hidden = pretrained.shape[-1]
        # Two products in place of one over a concatenation, which would copy both states. Slices of weights, unlike
        # chunks, are folded into constants when the graph is made.
        of_pretrained = linear(pretrained, fc.weight[:, :hidden], fc.bias)
        weight = torch.sigmoid(of_pretrained + linear(expanded, fc.weight[:, hidden:]))
        return pretrained + weight * (expanded - pretrained)


class DlerpInLayer(ExpandedLayer):
    """h_p + w (h_e - h_p), w = sigmoid(fc x) per token, of the input x."""

    def add_weights(self, hidden: int, factor: bool) -> None:
        """Adds fc: hidden -> 1."""
        self.interp_weight = _Weighing(hidden)

    def merge(self, states: Tensor, pretrained: Tensor, expanded: Tensor) -> Tensor:
        """See the class."""
        return pretrained + torch.sigmoid(self.interp_weight.fc(states)) * (expanded - pretrained)


class _Gating(nn.Module):
    """Holds `gate_network`, two logits."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gate_network = nn.Sequential(_undefined_linear(hidden, 2))


class MoeLayer(ExpandedLayer):
    """The answer of the one layer whose gate logit, Linear(hidden, 2) of the input, is larger, unscaled.

    The first is the pretrained layer's, which a tie goes to. Both layers run for every token.
    """

    def add_weights(self, hidden: int, factor: bool) -> None:
        """Adds the gate."""
        self.gating = _Gating(hidden)

    def merge(self, states: Tensor, pretrained: Tensor, expanded: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.gating.gate_network(states)
        of_pretrained, of_expanded = logits.chunk(2, dim=-1)
        return torch.where(of_expanded > of_pretrained, expanded, pretrained)


class ProgLayer(ExpandedLayer):
    """(1 - t) lateral(h_p) + t h_e."""

    def add_weights(self, hidden: int, factor: bool) -> None:
        """Adds one number, and the lateral connection: hidden -> hidden, without a bias."""
        self.interpolation_factor = _undefined(1)
        self.lateral_connection = _undefined_linear(hidden, hidden, bias=False)

    def merge(self, states: Tensor, pretrained: Tensor, expanded: Tensor) -> Tensor:
        """See the class."""
        share = self.share()
        lateral: Tensor = self.lateral_connection(pretrained)
        return (1 - share) * lateral + share * expanded


MERGES: dict[str, type[ExpandedLayer]] = {
    "lerp": LerpLayer,
    "slerp": SlerpLayer,
    "dlerp": DlerpLayer,
    "dlerpin": DlerpInLayer,
    "moe": MoeLayer,
    "proj": ProjLayer,
    "prog": ProgLayer,
}
"""`expansion.merge_method` -> the layer that merges so."""


def _undefined(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape), requires_grad=False)


def _undefined_linear(features: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(features, outputs, bias=bias, device="meta").to_empty(device="cpu")
    return layer.requires_grad_(False)


def _norm(vectors: Tensor) -> Tensor:
    """Measures the length of states. [..., hidden] -> [..., 1]"""
    return vectors.square().sum(-1, keepdim=True).sqrt()


def _unit(vectors: Tensor) -> Tensor:
    return vectors / _norm(vectors).clamp(min=1e-12)
