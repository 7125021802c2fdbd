"""Names of the outputs of a classification head."""

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.protos.errors import CheckpointError


def head_names(checkpoint: Checkpoint) -> list[str]:
    """Lists the names of a classification head's outputs. Raises CheckpointError if two have one."""
    config = checkpoint.model.config
    stated = {int(index): str(name) for index, name in config.id2label.items()}  # type: ignore[union-attr, operator]
    outputs = int(config.num_labels)  # type: ignore[union-attr, arg-type]
    names = [stated.get(index, f"label_{index}") for index in range(outputs)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise CheckpointError(
            f"config.json: id2label names several outputs {twice!r}: give each its own name"
        )
    return names
