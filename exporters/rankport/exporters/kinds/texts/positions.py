"""Positions that a model of transformers has encodings for."""

from torch import nn


def position_limit(model: nn.Module) -> int | None:
    """Counts the tokens of a text that position encodings reach; None where the config states no end of them."""
    config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    most: int | None = getattr(config, "max_position_embeddings", None)
    return None if most is None else most - _offset(model)


def _offset(model: nn.Module) -> int:
    """Counts positions never used: RoBERTa and its kin count positions from padding_idx + 1 on, so many of them."""
    tables = (part for name, part in model.named_modules() if name.endswith("position_embeddings"))
    padding = [
        part.padding_idx for part in tables if isinstance(part, nn.Embedding) and part.padding_idx is not None
    ]
    return max(padding, default=-1) + 1
