"""The item encoder as the table of kinds lists it."""

from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.kind import ExportKind
from rankport.runtime.kinds.item_encoder import kind

ITEM_ENCODER = ExportKind(
    kind.ITEM_ENCODER,
    "makes embedding tokens of a text",
    ItemEncoderOptions,
    "rankport.exporters.kinds.item_encoder.work",
    reference="embeddings",
)
