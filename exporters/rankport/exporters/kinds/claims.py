"""The kind that a checkpoint is of, where nobody said it."""

from collections.abc import Sequence
from pathlib import Path

from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.table import EXPORT_KINDS
from rankport.exporters.kinds.work import work_of
from rankport.exporters.options.options import StrPath
from rankport.protos.errors import InvalidRequest


def claimed_kind(
    checkpoint: StrPath, base: StrPath | None = None, kinds: Sequence[ExportKind] = EXPORT_KINDS
) -> ExportKind:
    """Finds the one kind that claims a checkpoint; `base` is an adapter's.

    Raises:
        InvalidRequest: none claims it, or several do.
        CheckpointError: the folder cannot be read.
    """
    model = StatedModel.read(Path(checkpoint), None if base is None else Path(base))
    claimants = [kind for kind in kinds if work_of(kind).claims(model)]
    if len(claimants) == 1:
        return claimants[0]
    said = f"checkpoint {str(model.path)!r} ({model.architecture})"
    if claimants:
        names = " or ".join(kind.name for kind in claimants)
        raise InvalidRequest(f"{said} may be {names}: say which with --kind")
    known = ", ".join(kind.name for kind in kinds)
    raise InvalidRequest(f"{said} is claimed by no kind: say --kind, one of {known}")
