"""Sizes of the windows that a model attends within, for samples of a proof to cross them."""

from collections.abc import Callable

import torch
from torch import nn

from rankport.exporters.graphs.masks import sizes_of_masks


def window_sizes(model: nn.Module, run: Callable[[], object]) -> frozenset[int]:
    """Lists the windows, and chunks, of the masks that a `run` of the model makes; without any, those of its config."""
    with torch.no_grad(), sizes_of_masks() as sizes:
        run()
    return frozenset(
        [*(sizes or stated_windows(model)), *([chosen_blocks(model)] if _chooses(model) else [])]
    )


def stated_windows(model: nn.Module) -> list[int]:
    """Lists windows that the config states."""
    config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    kinds = set(getattr(config, "layer_types", None) or ())
    fields = (("sliding_window", "sliding_attention"), ("attention_chunk_size", "chunked_attention"))
    stated = [getattr(config, name, None) for name, kind in fields if not kinds or kind in kinds]
    return [int(window) for window in stated if window]


def chosen_blocks(model: nn.Module) -> int:
    """Counts the keys of all blocks that a token chooses (MiniMax M3): of no more keys it leaves none out."""
    config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    return int(config.index_topk_blocks * config.index_block_size)


def _chooses(model: nn.Module) -> bool:
    return hasattr(model.config.get_text_config(), "index_topk_blocks")  # type: ignore[union-attr, operator]
