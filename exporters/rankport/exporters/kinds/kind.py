"""`ExportKind`: a kind of models as the table of exports lists it.

Imports no torch: the command line makes its flags of it.
"""

from dataclasses import dataclass
from typing import Literal

from rankport.exporters.options.options import ExportOptions
from rankport.exporters.options.reference_file import ReferenceForm
from rankport.runtime.kinds.kind import Kind


@dataclass(frozen=True, slots=True)
class ExportKind:
    """One row of the table."""

    bundles: Kind  # what the runtime knows of the bundles that are made: their name, rules and loader
    does: str  # in a few words, for the help
    options: type[ExportOptions]
    work: str  # the module whose `WORK` does it, see `kinds.work`; imported when an export runs, for it needs torch
    judged: Literal["items", "texts"] = (
        "items"  # what a line of --judged is: see `requests_file`, `judged_texts`
    )
    reference: ReferenceForm | None = (
        None  # what an owner's pipeline gives of such a model: see `reference_file`
    )

    @property
    def name(self) -> str:
        """The kind's name in manifests, flags and replies."""
        return self.bundles.name
