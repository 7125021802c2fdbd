"""Lengths of text that a model of transformers reads, and its graph alike."""

from typing import Any

from torch import nn

from rankport.exporters.checkpoints.config.positions import unused_positions
from rankport.exporters.checkpoints.forms.onnx_model import OnnxModel
from rankport.protos.errors import CheckpointError


def position_limit(model: nn.Module) -> int | None:
    """Counts the tokens of a text that position encodings or full attention reach; None where nothing says an end."""
    config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    stated = getattr(config, "max_position_embeddings", None)
    most = stated if stated is not None and stated > 0 else None  # XLNet's is -1, for none
    unused = model.unused_positions if isinstance(model, OnnxModel) else unused_positions(model)
    dense = None if isinstance(model, OnnxModel) else _densely_read(config)
    return min(
        (limit for limit in (None if most is None else most - unused, dense) if limit is not None),
        default=None,
    )


def require_within_reach(model: nn.Module, asked: str, tokens: int) -> None:
    """Checks a limit on texts, which `asked` names in words. Raises CheckpointError for more than the model reads."""
    most = position_limit(model)
    if most is None or tokens <= most:
        return
    if not isinstance(model, OnnxModel) and _densely_read(model.config.get_text_config()) == most:  # type: ignore[union-attr, operator]
        raise CheckpointError(
            f"{asked} exceed {most} tokens, up to which {type(model).__name__}'s block_sparse attention is full: of "
            "longer texts it leaves out blocks, some drawn at random: ask for less, or say attention_type "
            "original_full in config.json if the model is to read them whole"
        )
    raise CheckpointError(
        f"{asked} exceed the checkpoint's position encodings of {most} tokens: ask for less"
    )


def _densely_read(config: Any) -> int | None:
    """Counts the tokens up to which BigBird attends to all; None of another model.

    Of longer texts it leaves out blocks, some drawn at random, unless its attention is `original_full`; and once it has
    read a short one it leaves out none any more. A graph is of the former, and so would be the proof.
    """
    if getattr(config, "attention_type", None) != "block_sparse":
        return None
    return int((5 + 2 * config.num_random_blocks) * config.block_size)
