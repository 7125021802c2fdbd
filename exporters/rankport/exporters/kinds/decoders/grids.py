"""Rotary frequencies of models that see too: of a text every grid of positions (time, height, width) is the same.

What such a model puts together of its grids is then one grid's frequencies in some order, which a run of its own code
tells: a graph has that instead of a part of each grid written over another's.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from rankport.exporters.temporary_attributes import temporary_attributes

_RECOMPOSES, _GRIDS = "recomposition_frequencies", 3


@contextmanager
def one_grid(model: nn.Module) -> Iterator[None]:
    """Has the model, while open, read the frequencies of all grids off the first."""
    with ExitStack() as stack:
        for part in model.modules():
            order = _order(part)
            if order is not None:
                stack.enter_context(temporary_attributes(part, {_RECOMPOSES: partial(_ordered, order)}))
        yield


def _order(part: nn.Module) -> tuple[int, ...] | None:
    """Finds which of a grid's frequencies stand where in the result; None where there are no grids, or other ones."""
    own, frequencies = getattr(part, _RECOMPOSES, None), getattr(part, "inv_freq", None)
    if own is None or not isinstance(frequencies, Tensor):
        return None
    places = torch.arange(len(frequencies), dtype=torch.float32)
    others = (places * 3.7).sin()
    try:
        found, again = (own(grid.expand(_GRIDS, 1, 1, -1).clone()) for grid in (places, others))
    except (RuntimeError, IndexError, ValueError):
        return None
    order = found.flatten().long()
    is_order = found.shape[:2] == (1, 1) and bool(((order >= 0) & (order < len(places))).all())
    return tuple(order.tolist()) if is_order and torch.equal(again.flatten(), others[order]) else None


def _ordered(order: tuple[int, ...], frequencies: Tensor) -> Tensor:
    """Puts [grids, batch, tokens, frequencies] in that order: [batch, tokens, numbers]."""
    first, width = frequencies[0], frequencies.shape[-1]
    whole = tuple(range(width))
    if order == whole:
        return first
    if order == whole * 2:
        return torch.cat((first, first), dim=-1)
    return first[..., list(order)]
