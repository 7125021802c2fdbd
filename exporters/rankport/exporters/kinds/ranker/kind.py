"""The ranker as the table of kinds lists it."""

from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.runtime.kinds.ranker import kind

RANKER = ExportKind(
    kind.RANKER,
    "scores text items against a prefix, with --item-encoder embedding tokens too",
    RankerOptions,
    "rankport.exporters.kinds.ranker.work",
    reference="scores",
)
