"""The head of a classifier: names of its outputs, whether they exclude each other, and what it is made of."""

from collections.abc import Sequence

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.labels.heads import head_names, require_both_ways
from rankport.exporters.kinds.labels.pooled_head import are_exclusive, pooled_head
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.protos.wording import counted
from rankport.runtime.bundle.manifest import ClassHead, Labels


def resolve_head(source: Checkpoint, named: Sequence[str] | None) -> tuple[Labels, ClassHead]:
    """Finds labels and head of a checkpoint: of its class, or of the pooling and Dense layers of its folder.

    Raises:
        CheckpointError: it has no head of classes, or as many names as outputs are not to be had.
        InvalidRequest: `named` are not as many as the head has outputs, or a name is given twice.
    """
    if source.head == "classification_head":
        require_both_ways(
            source,
            "--kind ranker shares its prefix among the texts, and its bundle classifies too (Classifier.load)",
        )
        stated = tuple(head_names(source))
        head = ClassHead(exclusive=are_exclusive(source, len(stated)))
    elif source.head == "none":
        stated, head = pooled_head(source, named=named is not None)
    else:
        raise CheckpointError(
            f"{source.architecture} has no head over a whole text: a classifier is a ...ForSequenceClassification, or "
            "a sentence-transformers folder with Pooling and Dense layers that end in its labels"
        )
    names = stated if named is None else _named(named, len(stated))
    return Labels(source="classification_head", names=list(names), ids=list(range(len(names)))), head


def _named(names: Sequence[str], outputs: int) -> Sequence[str]:
    if len(names) != outputs:
        raise InvalidRequest(
            f"--labels {','.join(names)}: {counted(len(names), 'name')}, and the head has "
            f"{counted(outputs, 'output')}: name each once, in "
            "order"
        )
    if len(set(names)) < len(names):
        raise InvalidRequest(f"--labels {','.join(names)}: a name is given twice")
    return names
