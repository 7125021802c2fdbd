"""The limits of an item encoder: what it was asked for, within its position encodings."""

from torch import nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Limits

_DEFAULT_TOKENS = 512


def item_encoder_limits(source: Checkpoint, options: ItemEncoderOptions) -> Limits:
    """Chooses the item limit within the checkpoint's position encodings."""
    config = source.model.config.get_text_config()  # type: ignore[union-attr, operator]
    most = getattr(config, "max_position_embeddings", None)
    if most is not None:
        most -= _position_offset(source.model)
    item = options.max_item_tokens or min(_DEFAULT_TOKENS, most or _DEFAULT_TOKENS)
    if most is not None and item > most:
        raise CheckpointError(
            f"max item tokens {item} exceed the checkpoint's position encodings of {most} tokens: "
            "lower --max-item-tokens"
        )
    return Limits(max_prefix_tokens=0, max_item_tokens=item)


def _position_offset(model: nn.Module) -> int:
    """Counts positions never used: RoBERTa and its kin count positions from padding_idx + 1 on, so many of them."""
    tables = (part for name, part in model.named_modules() if name.endswith("position_embeddings"))
    padding = [
        part.padding_idx for part in tables if isinstance(part, nn.Embedding) and part.padding_idx is not None
    ]
    return max(padding, default=-1) + 1
