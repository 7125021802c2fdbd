"""The limits of an item encoder: what it was asked for, within its position encodings and its folder's word."""

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.folder import read_encoder_folder
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.texts.positions import position_limit, require_within_reach
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import Limits

_DEFAULT_TOKENS = 512


def item_encoder_limits(source: Checkpoint, options: ItemEncoderOptions) -> Limits:
    """Chooses the item limit within the checkpoint's position encodings.

    A sentence-transformers folder says where texts are cut, special tokens included: less may be asked for, not more.
    """
    most = position_limit(source.model)
    folder = read_encoder_folder(source.path)
    if folder is not None and (stated := folder.transformer.max_seq_length) is not None:
        _check_stated(options.max_item_tokens, stated, folder.transformer.config_file.name)
        default = stated if most is None else min(stated, most)
    elif folder is not None and most is not None:
        default = most  # where sentence-transformers cuts if nothing is said
    else:
        default = min(_DEFAULT_TOKENS, most or _DEFAULT_TOKENS)
    item = options.max_item_tokens or default
    require_within_reach(source.model, f"--max-item-tokens {item}", item)
    return Limits(max_prefix_tokens=0, max_item_tokens=item)


def _check_stated(asked: int | None, stated: int, file: str) -> None:
    if asked is not None and asked > stated:
        raise InvalidRequest(
            f"--max-item-tokens {asked}: the folder's model reads {stated} tokens of a text, and cuts the rest: ask "
            f"for no more, or set another max_seq_length in {file}"
        )
