"""Sliding windows of a decoder's layers, read off the masks that transformers makes for them, not off its config.

A window of 8 is of the last 8 tokens, the one that looks included: of its item, and before that of its prefix.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import masking_utils
from transformers.masking_utils import (
    AttentionMaskInterface,
    causal_mask_function,
    chunked_causal_mask_function,
    sliding_window_causal_mask_function,
)

from rankport.exporters.graphs.attention_interface import attending
from rankport.exporters.graphs.masks import Rule, sees
from rankport.exporters.kinds.decoders.module import DecoderModule
from rankport.exporters.kinds.window_sizes import chosen_blocks, stated_windows
from rankport.exporters.temporary_attributes import temporary_attributes
from rankport.protos.errors import CheckpointError

_NAME = "rankport_windows"
_blockwise = masking_utils.blockwise_overlay
_TOKENS = 3  # of the run
_NEAR = (0, 1, 2, 7, 64)
"""Places at which a rule is asked, beside those around its size."""


@dataclass(slots=True)
class Windows:
    """Windows of one model."""

    by_layer: dict[int, int] = field(default_factory=dict)
    bound: int | None = None
    """Tokens up to which every layer sees all; beyond them one attends in a way that no graph has."""

    def bind(self, sizes: list[int]) -> None:
        """Lowers the bound to the least of some sizes."""
        self.bound = min([*sizes, *([] if self.bound is None else [self.bound])], default=None)


@dataclass(frozen=True, slots=True)
class _Made:
    """One mask that transformers asked for: its rule, and the size that it names beside it."""

    mask: Tensor
    rule: Rule
    size: int | None


@dataclass(frozen=True, slots=True)
class _Given:
    """Mask and window that one layer was given."""

    layer: int
    mask: Tensor | None
    window: int | None
    chooses: bool  # which blocks of keys a token sees


def read_windows(module: DecoderModule) -> Windows:
    """Runs the body once. Raises CheckpointError for a layer whose mask is neither causal, nor a window, nor chunks."""
    model, windows = module.model, Windows()
    with _watched(model) as (made, given), torch.no_grad():
        inputs = module.inputs(torch.arange(1, _TOKENS + 1) % module.embed_tokens.num_embeddings)
        model.base_model(**inputs, use_cache=False)  # type: ignore[operator]
    for one in given:
        if one.chooses:
            windows.bind([chosen_blocks(model)])
        told = _made_for(one.mask, made)
        if told is None:
            # The model makes masks of its own, if any: what is stated must not be reached.
            windows.bind([*stated_windows(model), *([one.window] if one.window else [])])
        elif told.size is not None and _is(told, sliding_window_causal_mask_function(told.size)):
            windows.by_layer[one.layer] = told.size
        elif told.size is not None and _is(told, _chunked(told.size)):
            windows.bind([told.size])
        elif not _is(told, causal_mask_function):
            raise CheckpointError(
                f"{type(model).__name__} attends in layer {one.layer} by a rule that is neither causal nor a sliding "
                "window: an item would see other tokens than those that a graph shows it"
            )
    return windows


@contextmanager
def _watched(model: nn.Module) -> Iterator[tuple[list[_Made], list[_Given]]]:
    """Notes, while open, which masks are made, and what each layer is given; nothing attends."""
    made: list[_Made] = []
    given: list[_Given] = []

    def make(
        batch_size: int,
        q_length: int,
        kv_length: int,
        *,
        mask_function: Rule,
        local_size: int | None = None,
        **more: Any,
    ) -> Tensor:
        mask = torch.ones(batch_size, 1, q_length, kv_length, dtype=torch.bool)
        made.append(_Made(mask, mask_function, None if local_size is None else int(local_size)))
        return mask

    def attend(
        layer: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        sliding_window: int | None = None,
        block_indices: Tensor | None = None,
        **more: object,
    ) -> tuple[Tensor, None]:
        items, heads, tokens, _ = query.shape
        number = int(getattr(layer, "layer_idx", -1))
        given.append(_Given(number, attention_mask, sliding_window, block_indices is not None))
        return value.new_zeros(items, tokens, heads, value.shape[-1]), None

    AttentionMaskInterface.register(_NAME, make)
    try:
        with (
            attending(model, _NAME, attend),
            temporary_attributes(masking_utils, {"blockwise_overlay": _blocks}),
        ):
            yield made, given
    finally:
        AttentionMaskInterface.register(_NAME, _none)  # which holds no model


def _blocks(block_ids: Tensor) -> Rule:
    """Makes the rule of blocks that are read both ways, as Gemma 4 reads images: a text alone, all of -1, has none.

    transformers' own looks every place up, of which a window has more than the run has tokens.
    """
    if bool((block_ids >= 0).any()):
        return _blockwise(block_ids)
    return lambda batch, head, query, key: (query < 0) & (key < 0)  # nowhere


def _none(*arguments: object, **more: object) -> None:
    return None


def _made_for(mask: Tensor | None, made: list[_Made]) -> _Made | None:
    """Finds the mask that a layer was given, or a part of."""
    if mask is None:
        return None
    whole = mask if mask._base is None else mask._base
    return next((one for one in made if one.mask is whole), None)


def _is(told: _Made, rule: Callable[..., Any]) -> bool:
    """Says whether two rules agree at places around a size."""
    size = told.size or 0
    for place in {*_NEAR, *(times * size + step for times in (1, 2, 3) for step in (-1, 0, 1))}:
        if place < 0:
            continue
        queries, keys = torch.tensor([place]), torch.arange(place + 2)
        try:
            seen = sees(told.rule, queries, keys)
        except IndexError:  # it looks places up, of which the run had fewer
            return False
        if not torch.equal(seen, sees(rule, queries, keys)):
            return False
    return True


def _chunked(size: int) -> Rule:
    rule: Rule = chunked_causal_mask_function(size, torch.zeros(1, dtype=torch.int64))
    return rule
