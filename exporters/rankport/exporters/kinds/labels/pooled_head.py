"""The head of a sentence-transformers folder whose pooled states end in labels: pooling, Dense layers, names."""

from collections.abc import Mapping
from types import MappingProxyType

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.checkpoints.sentence_transformers.dense import require_chained
from rankport.exporters.checkpoints.sentence_transformers.folder import EncoderFolder, read_encoder_folder
from rankport.exporters.checkpoints.states import states_width
from rankport.exporters.kinds.labels.heads import names_in_order
from rankport.exporters.kinds.labels.score import outputs_compete
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.protos.wording import counted
from rankport.runtime.bundle.manifest import ClassHead, Embedding, Pooling
from rankport.runtime.bundle.sections.embedding import AVERAGES

PREFIX_POOLINGS: Mapping[tuple[Pooling, ...], str] = MappingProxyType(
    {("last-k",): "at its last token", **{(pooling,): f"by {pooling}" for pooling in AVERAGES}}
)
"""Poolings of a decoder whose prefix can be shared, and how it is read by them."""


def pooled_head(source: Checkpoint, *, named: bool) -> tuple[tuple[str, ...], ClassHead]:
    """Reads names and head of the folder of a bare body; names that an option gives (`named`) are empty here.

    Raises:
        CheckpointError: pooled states do not end in labels, or as many names as outputs are not to be had.
        InvalidRequest: nothing names the outputs.
    """
    folder = _folder(source)
    states = states_width(source.model, source.hidden_size)
    folder.pooling.require_width(states, source.hidden_size)
    outputs = require_chained(folder.dense, states * len(folder.pooling.modes))
    stated = _folder_names(source, folder, outputs, wanted=not named)
    head = ClassHead(
        exclusive=are_exclusive(source, outputs),
        pooling=folder.pooling.modes[0],
        further_poolings=list(folder.pooling.modes[1:]),
        dense=[layer for _, layer in folder.dense],
    )
    return stated, head


def pooled_form(head: ClassHead, outputs: int) -> Embedding | None:
    """States a head of pooled states as an encoder of one token of as many values as it has outputs, else None."""
    if head.pooling is None:
        return None
    return Embedding(
        tokens=1,
        hidden_size=outputs,
        dtype="float32",
        pooling=head.pooling,
        normalize=False,
        further_poolings=head.further_poolings,
        dense=head.dense,
    )


def are_exclusive(source: Checkpoint, outputs: int) -> bool:
    """Says whether labels exclude each other. Raises CheckpointError for a regression."""
    problem = getattr(source.model.config, "problem_type", None)
    if problem == "regression":
        raise CheckpointError(
            "config.json: problem_type is regression, whose output is no class: --kind cross-encoder gives it as a "
            "score of a pair, or set problem_type to what the head was trained for"
        )
    return outputs > 1 and outputs_compete(source)


def _folder(source: Checkpoint) -> EncoderFolder:
    """Reads a folder whose Dense layers end in labels. Raises CheckpointError for another."""
    folder = read_encoder_folder(source.path)
    if folder is None or not folder.dense:
        raise CheckpointError(
            f"{source.architecture} in {str(source.path)!r} has no head: a classifier is a "
            "...ForSequenceClassification, or a sentence-transformers folder whose Dense layers end in its labels"
        )
    if folder.normalize or folder.truncate_dim is not None:
        raise CheckpointError(
            f"checkpoint {str(source.path)!r} has a Normalize module or truncate_dim behind its Dense layers: of "
            "logits they would be other ones: take them out"
        )
    if folder.dense[-1][1].activation == "sigmoid":
        raise CheckpointError(
            f"{folder.dense[-1][0] / 'config.json'}: activation_function is Sigmoid, so its outputs are probabilities "
            "already: set Identity, and problem_type multi_label_classification in config.json if labels do not "
            "exclude each other"
        )
    return folder


def _folder_names(
    source: Checkpoint, folder: EncoderFolder, outputs: int, *, wanted: bool
) -> tuple[str, ...]:
    """Takes the names that the folder states: its own `labels`, or id2label of the body's config."""
    if not wanted:
        return ("",) * outputs
    stated, where = folder.labels, "config_sentence_transformers.json: labels"
    names = read_json_object(source.config_file).get("id2label")
    if stated is None and isinstance(names, dict):
        stated = tuple(names_in_order(names, str(source.config_file)))
        where = f"{source.config_file}: id2label"
    if stated is None:
        raise InvalidRequest(
            f"checkpoint {str(source.path)!r} does not name the {counted(outputs, 'output')} of its last "
            "Dense layer: give "
            "--labels, in order"
        )
    if len(stated) != outputs:
        raise CheckpointError(
            f"{where} has {counted(len(stated), 'label')}, and the last Dense layer "
            f"{counted(outputs, 'output')}: name each output once"
        )
    return stated
