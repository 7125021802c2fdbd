"""Positions that a model of transformers has encodings for."""

from torch import nn

from rankport.exporters.checkpoints.config.positions import unused_positions
from rankport.exporters.checkpoints.forms.onnx_model import OnnxModel


def position_limit(model: nn.Module) -> int | None:
    """Counts the tokens of a text that position encodings reach; None where the config states no end of them."""
    config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    most: int | None = getattr(config, "max_position_embeddings", None)
    unused = model.unused_positions if isinstance(model, OnnxModel) else unused_positions(model)
    return None if most is None else most - unused
