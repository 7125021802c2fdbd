"""Positions that a model's table of position embeddings has and never uses."""

from torch import nn


def unused_positions(model: nn.Module) -> int:
    """Counts them: RoBERTa and its kin count positions from padding_idx + 1 on, so many are never used."""
    tables = (part for name, part in model.named_modules() if name.endswith("position_embeddings"))
    padding = [
        part.padding_idx for part in tables if isinstance(part, nn.Embedding) and part.padding_idx is not None
    ]
    return max(padding, default=-1) + 1
