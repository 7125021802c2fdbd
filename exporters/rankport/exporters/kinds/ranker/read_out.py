"""The logits that answer: label words or ids, or a classification head, checked against the checkpoint."""

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.ranker.module import ReadOut
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import Labels
from rankport.runtime.prompt.tokenizer import Tokenizer


def resolve_labels(
    checkpoint: Checkpoint,
    options: RankerOptions,
    prompt_labels: list[str] | None,
    tokenizer: Tokenizer | None,
) -> Labels:
    """Chooses the read-out of a ranker. Flags win over the prompt file.

    Raises:
        InvalidRequest: a label that is no single token of the vocabulary, or no labels for an LM head.
    """
    if checkpoint.head == "classification_head":
        return _head_labels(checkpoint, options)
    if options.label_ids is not None:
        return _by_id(checkpoint, options.label_ids, tokenizer)
    words = options.labels or tuple(prompt_labels or ())
    if not words:
        raise InvalidRequest(
            f'{checkpoint.architecture} has an LM head: say which tokens answer, with --labels "yes,no" (the first is '
            'the positive one), --label-ids, or labels = ["yes", "no"] in the prompt file'
        )
    if tokenizer is None:
        raise InvalidRequest(f"labels {list(words)} need a tokenizer.json in the checkpoint: use --label-ids")
    return _checked(checkpoint, list(words), [_label_token(word, tokenizer) for word in words])


def readout_of(labels: Labels) -> ReadOut:
    """Gives the read-out as the exporter's modules take it."""
    return ReadOut(labels.source, tuple(labels.ids))


def _head_labels(checkpoint: Checkpoint, options: RankerOptions) -> Labels:
    if options.labels is not None or options.label_ids is not None:
        raise InvalidRequest(
            f"{checkpoint.architecture} answers by its classification head: leave --labels and --label-ids out"
        )
    config = checkpoint.model.config
    names = {int(index): str(name) for index, name in config.id2label.items()}  # type: ignore[union-attr, operator]
    outputs = int(config.num_labels)  # type: ignore[union-attr, arg-type]
    return Labels(
        source="classification_head",
        names=[names.get(index, f"label_{index}") for index in range(outputs)],
        ids=list(range(outputs)),
    )


def _by_id(checkpoint: Checkpoint, ids: tuple[int, ...], tokenizer: Tokenizer | None) -> Labels:
    names = [
        str(token) if tokenizer is None else tokenizer.decode([token]).strip() or str(token) for token in ids
    ]
    if len(set(names)) < len(names):
        names = [str(token) for token in ids]
    return _checked(checkpoint, names, list(ids))


def _checked(checkpoint: Checkpoint, names: list[str], ids: list[int]) -> Labels:
    full = checkpoint.model.get_output_embeddings()  # type: ignore[operator]
    if full is None:
        raise CheckpointError(f"{checkpoint.architecture} has no LM head to read labels from")
    rows = int(full.out_features)
    for name, token in zip(names, ids, strict=True):
        if not 0 <= token < rows:
            raise InvalidRequest(f"label {name!r} is token {token}, outside the vocabulary of {rows} tokens")
    if len(set(ids)) < len(ids):
        raise InvalidRequest(f"labels {names} map to tokens {ids}: each must be a token of its own")
    return Labels(source="lm_head", names=names, ids=ids)


def _label_token(word: str, tokenizer: Tokenizer) -> int:
    pieces = [int(piece) for piece in tokenizer.encode_batch([word])[0]]
    exact = tokenizer.token_id(word)
    if exact is None and len(pieces) == 1:
        _require_same_text(word, pieces[0], tokenizer)
        return pieces[0]
    if exact is None:
        shown = [tokenizer.decode([piece]) for piece in pieces]
        raise InvalidRequest(
            f"label {word!r} is {len(pieces)} tokens {shown}: a label must be a single token of the vocabulary"
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
