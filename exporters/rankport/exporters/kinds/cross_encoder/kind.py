"""The cross-encoder as the table of kinds lists it."""

from rankport.exporters.kinds.cross_encoder.options import CrossEncoderOptions
from rankport.exporters.kinds.kind import ExportKind
from rankport.runtime.kinds.cross_encoder import kind

CROSS_ENCODER = ExportKind(
    kind.CROSS_ENCODER,
    "scores items read together with the prefix",
    CrossEncoderOptions,
    "rankport.exporters.kinds.cross_encoder.work",
)
