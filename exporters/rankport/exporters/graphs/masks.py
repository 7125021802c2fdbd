"""Masks of a model that is traced: how transformers makes them meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS


@contextmanager
def masks_by_index() -> Iterator[None]:
    """Has transformers, while open, make every mask of tensors of indices.

    Where a model has rules of its own, as one that reads windows both ways, it maps them over each index (vmap), which
    cannot be traced.
    """
    masks = ALL_MASK_ATTENTION_FUNCTIONS
    known = [name for name in ("eager", "sdpa") if name in masks]
    for name in known:
        masks[name] = _without_vmap(masks[name])
    try:
        yield
    finally:
        for name in known:
            masks.pop(name)  # of this module alone: what was there before is behind it


def _without_vmap(make: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(make)
    def made(*arguments: Any, **more: Any) -> Any:
        return make(*arguments, **{**more, "use_vmap": False})

    return made
