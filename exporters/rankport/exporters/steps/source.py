"""Loads the checkpoint that an export, or a proof, is of."""

from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.work import work_of
from rankport.exporters.options.request_files import StrPath


def load_source(
    kind: ExportKind,
    checkpoint: StrPath,
    base: StrPath | None = None,
    ignore_remote_code: bool = False,
    task: str | None = None,
) -> Checkpoint:
    """Loads a checkpoint as its kind needs it. Raises as `load_checkpoint`."""
    return load_checkpoint(
        Path(checkpoint),
        head=work_of(kind).head,
        base=None if base is None else Path(base),
        ignore_remote_code=ignore_remote_code,
        task=task,
    )
