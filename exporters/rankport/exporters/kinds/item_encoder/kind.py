"""The item encoder as the table of kinds lists it."""

from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.kind import ExportKind

ITEM_ENCODER = ExportKind(
    "item-encoder",
    "makes embedding tokens of a text",
    ItemEncoderOptions,
    "rankport.exporters.kinds.item_encoder.work",
)
