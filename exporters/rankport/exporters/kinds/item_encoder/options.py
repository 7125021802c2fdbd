"""Options of the export of an item encoder, beside what every export can."""

from dataclasses import dataclass, field
from typing import Literal

from rankport.exporters.options.options import ExportOptions, require_count
from rankport.protos.flags import flag
from rankport.runtime.bundle.manifest import Pooling


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemEncoderOptions(ExportOptions):
    """Options of an item encoder. Pooling and normalization are by default what a sentence-transformers folder says."""

    pooling: Pooling | None = field(
        default=None,
        metadata=flag("Hidden states that become tokens: last-k, cls or mean.", metavar="HOW"),
    )
    tokens: int | None = field(default=None, metadata=flag("k of last-k pooling. [default: 1]"))
    normalize: bool | None = field(default=None, metadata=flag("Unit length for each token."))
    output_dtype: Literal["float16", "float32"] | None = field(
        default=None, metadata=flag("float16 or float32 tokens. [default: float16]", metavar="DTYPE")
    )

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        require_count("tokens", self.tokens, least=1)
