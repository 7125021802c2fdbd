"""Labels that are tokens: words or ids to rows of an LM head, checked against tokenizer and vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.cross_encoder import CrossEncoderFolder
from rankport.exporters.kinds.labels.score import positive_of_tokens
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.protos.wording import counted
from rankport.runtime.bundle.manifest import Labels
from rankport.runtime.prompt.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class NamedLabels:
    """Options that name labels; None where nothing was said."""

    words: tuple[str, ...] | None
    ids: tuple[int, ...] | None
    positive: str | None


def labels_of_tokens(
    checkpoint: Checkpoint,
    named: NamedLabels,
    prompt_labels: Sequence[str] | None,
    tokenizer: Tokenizer | None,
) -> Labels:
    """Chooses the rows of an LM head. Flags win over the prompt file, and that over a CrossEncoder's folder.

    Raises InvalidRequest for a label that is no single token of the vocabulary, for none, and where nothing says which
    is the positive one.
    """
    if named.ids is not None:
        return _by_id(checkpoint, named.ids, tokenizer, named.positive)
    words = named.words or tuple(prompt_labels or ())
    stated = CrossEncoderFolder.read(checkpoint.path).logit_score
    if not words and stated is not None:
        return _by_id(checkpoint, stated.ids, tokenizer, named.positive)
    if not words:
        raise InvalidRequest(
            f'{checkpoint.architecture} has an LM head: say which tokens answer, with --labels "yes,no" (the first is '
            'the positive one), --label-ids, or labels = ["yes", "no"] in the prompt file'
        )
    if tokenizer is None:
        raise InvalidRequest(f"labels {list(words)} need a tokenizer.json in the checkpoint: use --label-ids")
    ids = [_label_token(word, tokenizer) for word in words]
    return _checked(checkpoint, list(words), ids, named.positive)


def _by_id(
    checkpoint: Checkpoint, ids: tuple[int, ...], tokenizer: Tokenizer | None, positive: str | None
) -> Labels:
    names = [
        str(token)
        if tokenizer is None or not 0 <= token < 2**32  # no id of a tokenizer's
        else tokenizer.decode([token]).strip() or str(token)
        for token in ids
    ]
    if len(set(names)) < len(names):
        names = [str(token) for token in ids]
    return _checked(checkpoint, names, list(ids), positive)


def _checked(checkpoint: Checkpoint, names: list[str], ids: list[int], positive: str | None) -> Labels:
    full = checkpoint.model.get_output_embeddings()  # type: ignore[operator]
    if full is None:
        raise CheckpointError(f"{checkpoint.architecture} has no LM head to read labels from")
    rows = int(full.out_features)
    for name, token in zip(names, ids, strict=True):
        if not 0 <= token < rows:
            raise InvalidRequest(
                f"label {name!r} is token {token}, outside the vocabulary of {counted(rows, 'token')}"
            )
    if len(set(ids)) < len(ids):
        raise InvalidRequest(f"labels {names} map to tokens {ids}: each must be a token of its own")
    index = positive_of_tokens(names, ids, positive)
    return Labels(source="lm_head", names=names, ids=ids, positive=index)


def _label_token(word: str, tokenizer: Tokenizer) -> int:
    pieces = [int(piece) for piece in tokenizer.encode_batch([word])[0]]
    exact = tokenizer.token_id(word)
    if exact is None and len(pieces) == 1:
        _require_same_text(word, pieces[0], tokenizer)
        return pieces[0]
    if exact is None:
        shown = [tokenizer.decode([piece]) for piece in pieces]
        raise InvalidRequest(
            f"label {word!r} is {counted(len(pieces), 'token')} {shown}: a label must be a single token of "
            "the vocabulary"
        )
    if len(pieces) == 1 and pieces[0] != exact:
        raise InvalidRequest(
            f"label {word!r} is token {exact} by its name in the vocabulary and token {pieces[0]} as a text: "
            "say which one with --label-ids"
        )
    return exact


def _require_same_text(word: str, token: int, tokenizer: Tokenizer) -> None:
    """Refuses an unknown word, which encodes to one token too: the unknown token."""
    text = tokenizer.decode([token])
    if text.strip().casefold() != word.strip().casefold():
        raise InvalidRequest(f"label {word!r} is not in the vocabulary: it encodes to {text!r}")
