"""Scoring of representations: interactions of query and item, wide features, and the MLP over both."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.two_tower.config import Head, Interaction
from rankport.exporters.checkpoints.two_tower.towers import ACTIVATIONS
from rankport.runtime.bundle.sections.wide import WideFeature

_LEAST_NORM = 1e-12


class WideInput(nn.Module):
    """([items, features] as a request brings them) -> scaled: NaN replaced where the feature says so, then (x - a) / b.

    NaN stays NaN where it says nothing: a request with one is refused before.
    """

    fill: Tensor
    shift: Tensor
    divisor: Tensor

    def __init__(self, features: Sequence[WideFeature]) -> None:
        super().__init__()
        fills = [float("nan") if feature.nan is None else feature.nan for feature in features]
        for name, values in (
            ("fill", fills),
            ("shift", [feature.shift for feature in features]),
            ("divisor", [feature.divisor for feature in features]),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Scales features. [items, features]"""
        return (torch.where(torch.isnan(features), self.fill, features) - self.shift) / self.divisor


def interact(kinds: Sequence[Interaction], query: Tensor, items: Tensor) -> Tensor:
    """Joins the interactions of a query [width] with items [items, width]. [items, values]

    cosine q.i / (|q| |i|) · dot q.i · hadamard q * i · concat q, i · difference q - i
    """
    return torch.cat([_interaction(kind, query[None], items) for kind in kinds], dim=1)


def values_of(kinds: Sequence[Interaction], width: int) -> int:
    """Counts the values that the interactions make."""
    sizes = {"cosine": 1, "dot": 1, "hadamard": width, "concat": 2 * width, "difference": width}
    return sum(sizes[kind] for kind in kinds)


def _interaction(kind: Interaction, query: Tensor, items: Tensor) -> Tensor:
    match kind:
        case "cosine":
            norms = _norm(query) * _norm(items)
            return (query * items).sum(dim=1, keepdim=True) / norms
        case "dot":
            return (query * items).sum(dim=1, keepdim=True)
        case "hadamard":
            return query * items
        case "concat":
            return torch.cat([query.expand(items.shape[0], -1), items], dim=1)
        case "difference":
            return query - items


def _norm(rows: Tensor) -> Tensor:
    return (rows * rows).sum(dim=1, keepdim=True).sqrt().clamp(min=_LEAST_NORM)


def make_head(head: Head | None, values: int) -> nn.Module:
    """Makes the MLP [items, values] -> [items, outputs]; what comes in where there is none."""
    if head is None:
        return nn.Identity()
    layers: list[nn.Module] = []
    for size in head.hidden:
        layers += [nn.Linear(values, size), ACTIVATIONS[head.activation]()]
        values = size
    return nn.Sequential(*layers, nn.Linear(values, len(head.outputs)))
