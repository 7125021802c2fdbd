"""Loud columns: the few input channels far above the others, for which a token's one step in low bits is too coarse."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_TEXTS, _TOKENS = 16, 48
_KEPT_POSITIONS = 4
"""Positions that some families give to no token."""
_LOUD = 1.5
"""Times the loudest column is above the loudest of the others, at least: below, leaving columns out gains nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class LoudColumns:
    """Input channels that a layer multiplies in fp32; its low-bit weight is zero there."""

    places: Tensor  # [columns] int64
    weight: Tensor  # [out, columns] fp32

    def quiet(self, width: int) -> Tensor:
        """Marks the other channels by 1, these by 0. fp32 [width]"""
        return quiet_mask(self.places, width)

    def product(self, x: Tensor) -> Tensor:
        """Multiplies these channels alone. [..., in] -> [..., out]"""
        return x[..., self.places] @ self.weight.T


def quiet_mask(loud: Tensor | None, width: int) -> Tensor:
    """Marks input channels by 1, the `loud` ones by 0. fp32 [width]"""
    mask = torch.ones(width)
    if loud is not None:
        mask[loud] = 0
    return mask


def with_loud(activation: str, columns: int) -> str:
    """Adds, to words for how inputs are rounded, that so many of their columns are not."""
    return f"{activation}, {columns} loud columns in fp32"


def stated_loud(activations: str) -> int:
    """Reads the number off words of `with_loud`; 0 of others."""
    stated = re.search(r", (\d+) loud columns in fp32$", activations)
    return 0 if stated is None else int(stated[1])


def find_loud(model: nn.Module, count: int) -> dict[str, Tensor]:
    """Finds the loudest columns of linear layers on drawn ids, which outliers depend on little. name -> [count] int64

    Layers that are no part of the encoder, or have no loud columns, are left out. The same model gives the same places.
    """
    whole: Any = model
    body: Any = whole.get_encoder() if whole.config.is_encoder_decoder else whole.base_model
    most = getattr(whole.config, "max_position_embeddings", None) or _TOKENS
    size = (_TEXTS, max(1, min(_TOKENS, most - _KEPT_POSITIONS)))
    ids = torch.randint(
        whole.get_input_embeddings().num_embeddings, size, generator=torch.Generator().manual_seed(0)
    )
    largest: dict[str, Tensor] = {}
    names = {module: name for name, module in model.named_modules()}
    layers = {names[module]: module for module in body.modules() if isinstance(module, nn.Linear)}
    with torch.no_grad(), _watching(layers, largest):
        body(input_ids=ids)
    return {
        name: places
        for name, values in largest.items()
        if (places := _loud_places(values, count)) is not None
    }


def _loud_places(largest: Tensor, count: int) -> Tensor | None:
    """Takes the places of the `count` largest, unless they are hardly above the next."""
    if len(largest) <= count:
        return None
    values, places = largest.topk(count + 1)
    return places[:count].sort().values if values[0] >= _LOUD * values[count] else None


@contextmanager
def _watching(layers: dict[str, nn.Linear], largest: dict[str, Tensor]) -> Iterator[None]:
    """Keeps, while open, the largest value of each column of the inputs that are tokens' states."""

    def watch(name: str, layer: nn.Linear) -> Any:
        def hook(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            states = arguments[0]
            if states.ndim == 3:  # else one state a text
                values = states.to(torch.float32).abs().reshape(-1, layer.in_features).amax(dim=0)
                largest[name] = torch.maximum(largest[name], values) if name in largest else values

        return layer.register_forward_pre_hook(hook)

    handles = [watch(name, layer) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
