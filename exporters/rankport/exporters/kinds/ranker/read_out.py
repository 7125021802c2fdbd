"""The logits that answer: label words or ids, or a classification head, checked against the checkpoint."""

from collections.abc import Sequence

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.labels.heads import head_names
from rankport.exporters.kinds.labels.label_tokens import NamedLabels, labels_of_tokens
from rankport.exporters.kinds.labels.score import positive_of_head
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import Labels
from rankport.runtime.prompt.tokenizer import Tokenizer


def resolve_labels(
    checkpoint: Checkpoint,
    options: RankerOptions,
    prompt_labels: list[str] | None,
    tokenizer: Tokenizer | None,
    pooled: Sequence[str] | None = None,
) -> Labels:
    """Chooses the read-out of a ranker. Flags win over the prompt file, and that over a CrossEncoder's folder.

    `pooled` are the names of a bare body's labels.

    Raises:
        InvalidRequest: a label that is no single token of the vocabulary, no labels for an LM head, labels for a
            classification head, or no word on which label is the positive one.
    """
    if checkpoint.head == "classification_head":
        return _head_labels(checkpoint, options, prompt_labels)
    if pooled is not None:
        where = "config_sentence_transformers.json or config.json"
        return _labels_of(pooled, "its Dense layers", where, checkpoint, options, prompt_labels)
    named = NamedLabels(options.labels, options.label_ids, options.positive)
    return labels_of_tokens(checkpoint, named, prompt_labels, tokenizer)


def _head_labels(checkpoint: Checkpoint, options: RankerOptions, prompt_labels: list[str] | None) -> Labels:
    names = head_names(checkpoint)
    where = (
        "config.json (id2label)"
        if checkpoint.adapter is None
        else f"{checkpoint.adapter.base / 'config.json'} (id2label)"
    )
    labels = _labels_of(names, "its classification head", where, checkpoint, options, prompt_labels)
    return labels.model_copy(update={"pad_token": _passed_over(checkpoint)})


def _labels_of(
    names: Sequence[str],
    by: str,
    where: str,
    checkpoint: Checkpoint,
    options: RankerOptions,
    prompt_labels: list[str] | None,
) -> Labels:
    """Takes every output of a head, named in a file `where`. Raises InvalidRequest for labels given in their place."""
    given = [word for word in ("--labels", "--label-ids") if getattr(options, word[2:].replace("-", "_"))]
    given += ["the prompt file's labels"] if prompt_labels else []
    if given:
        raise InvalidRequest(
            f"{checkpoint.architecture} answers by {by}, with the labels {', '.join(names)}: leave "
            f"{' and '.join(given)} out; --positive says which of them scores, {where} how they are called"
        )
    return Labels(
        source="classification_head",
        names=list(names),
        ids=list(range(len(names))),
        positive=positive_of_head(names, options.positive),
    )


def _passed_over(checkpoint: Checkpoint) -> int | None:
    """Gives the pad token: a classification head of transformers answers at the last token that is not it."""
    token = checkpoint.model.config.get_text_config().pad_token_id  # type: ignore[union-attr, operator]
    # Some configs say -1, or a token of the tokenizer alone: no sequence has it.
    return int(token) if token is not None and 0 <= token < checkpoint.vocab_size else None
