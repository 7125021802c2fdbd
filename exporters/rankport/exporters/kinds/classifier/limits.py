"""The limit of a classifier's text or pair: as asked, as the folder says, within positions."""

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.cross_encoder import CrossEncoderFolder
from rankport.exporters.checkpoints.sentence_transformers.folder import read_encoder_folder
from rankport.exporters.kinds.classifier.options import ClassifierOptions
from rankport.exporters.kinds.texts.pairs.frame import PairTokenizer
from rankport.exporters.kinds.texts.positions import position_limit, require_within_reach
from rankport.protos.errors import InvalidRequest

_DEFAULT_TOKENS = 512


def classifier_limit(source: Checkpoint, options: ClassifierOptions) -> int:
    """Chooses how long a text, or a pair, may be, special tokens included.

    Raises CheckpointError for more than the positions, InvalidRequest for more than the folder says.
    """
    flag = "--max-pair-tokens" if options.texts == "pair" else "--max-item-tokens"
    asked = options.max_pair_tokens if options.texts == "pair" else options.max_item_tokens
    positions, stated = position_limit(source.model), _folder_limit(source)
    cut = stated or _tokenizer_limit(source)
    most = asked or min((limit for limit in (cut, positions) if limit is not None), default=_DEFAULT_TOKENS)
    require_within_reach(source.model, f"{flag} {most}", most)
    if asked is not None and stated is not None and asked > stated:
        raise InvalidRequest(
            f"{flag} {asked}: the folder's model reads {stated} tokens, and cuts the rest: ask for no more, or set "
            "another max_seq_length in the folder"
        )
    return most


def _folder_limit(source: Checkpoint) -> int | None:
    if source.head == "none":
        folder = read_encoder_folder(source.path)
        return None if folder is None else folder.transformer.max_seq_length
    return CrossEncoderFolder.read(source.path).max_seq_length


def _tokenizer_limit(source: Checkpoint) -> int | None:
    return None if source.tokenizer_file is None else PairTokenizer.of(source.tokenizer_file).limit
