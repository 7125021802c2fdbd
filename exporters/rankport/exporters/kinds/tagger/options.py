"""Options of the export of a tagger, beside what every export can."""

from dataclasses import dataclass, field
from typing import Literal

from rankport.exporters.options.checks import require_choice
from rankport.exporters.options.options import ExportOptions
from rankport.protos.flags import flag


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggerOptions(ExportOptions):
    """Options of a tagger."""

    unit: Literal["word", "token"] | None = field(
        default=None,
        metadata=flag(
            "What was labelled in training: word, each word by its first token (as with label_all_tokens off), or "
            "token, every one. [default: what crf.json says, else word]",
            metavar="UNIT",
        ),
    )

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        require_choice("unit", self.unit, ("word", "token"))
