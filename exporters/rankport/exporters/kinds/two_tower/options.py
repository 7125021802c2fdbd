"""Options of the export of two towers, beside what every export can."""

from dataclasses import dataclass, field
from typing import Literal

from rankport.exporters.options.checks import require_choice, require_count
from rankport.exporters.options.options import ExportOptions
from rankport.protos.flags import flag


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoTowerOptions(ExportOptions):
    """Options of two towers. By default they are what the checkpoint's config says."""

    max_prefix_tokens: int | None = field(
        default=None,
        metadata=flag(
            "Longest prefix the bundle accepts. [default: as the folder says, within the positions; else at most 1024, "
            "of a seq2seq 512]"
        ),
    )
    output_dtype: Literal["float16", "float32"] | None = field(
        default=None, metadata=flag("float16 or float32 representations. [default: float32]", metavar="DTYPE")
    )

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        require_choice("output_dtype", self.output_dtype, ("float16", "float32"))
        require_count("max_prefix_tokens", self.max_prefix_tokens, least=1)
