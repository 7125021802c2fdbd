"""Masks of a model that is traced: how transformers makes them meanwhile, and what its rules say of given places."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

Rule = Callable[..., Any]
"""One of transformers: (batch, head, place of the query, place of the key) -> whether it sees the key."""

_Make = Callable[..., Any]


def sees(rule: Rule, queries: Tensor, keys: Tensor) -> Tensor:
    """Says of places of tokens int64 which queries see which keys, alike in all heads: bool, as the two broadcast.

    Both are tensors of the device, nothing is counted from a shape.
    """
    first = torch.zeros((1,) * max(queries.dim(), keys.dim()), dtype=torch.int64)
    seen: Tensor = rule(first, first, queries, keys)
    return seen


@contextmanager
def masks_by_index() -> Iterator[None]:
    """Has transformers, while open, make every mask of tensors of indices.

    Where a model has rules of its own, as one that reads windows both ways, it maps them over each index (vmap), which
    cannot be traced.
    """
    with _made_by(_without_vmap):
        yield


@contextmanager
def sizes_of_masks() -> Iterator[set[int]]:
    """Collects, while open, the sizes of windows and chunks of which transformers makes masks, as it does."""
    sizes: set[int] = set()
    with _made_by(partial(_noting_size, sizes)):
        yield sizes


@contextmanager
def _made_by(wrap: Callable[[_Make], _Make]) -> Iterator[None]:
    masks = ALL_MASK_ATTENTION_FUNCTIONS
    known = [name for name in ("eager", "sdpa") if name in masks]
    for name in known:
        masks[name] = wrap(masks[name])
    try:
        yield
    finally:
        for name in known:
            masks.pop(name)  # of this module alone: what was there before is behind it


def _without_vmap(make: _Make) -> _Make:
    @wraps(make)
    def made(*arguments: Any, **more: Any) -> Any:
        return make(*arguments, **{**more, "use_vmap": False})

    return made


def _noting_size(sizes: set[int], make: _Make) -> _Make:
    @wraps(make)
    def made(*arguments: Any, local_size: int | None = None, **more: Any) -> Any:
        if local_size is not None:
            sizes.add(int(local_size))
        return make(*arguments, local_size=local_size, **more)

    return made
