"""`ExportKind`: a kind of models as the table lists it. Imports no torch: the command line makes its flags of it."""

from dataclasses import dataclass

from rankport.exporters.options.options import ExportOptions


@dataclass(frozen=True, slots=True)
class ExportKind:
    """One row of the table."""

    name: str  # in manifests, flags and replies
    does: str  # in a few words, for the help
    options: type[ExportOptions]
    work: str  # the module whose `WORK` does it, see `kinds.work`; imported when an export runs, for it needs torch
