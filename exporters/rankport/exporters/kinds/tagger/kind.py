"""The tagger as the table of kinds lists it."""

from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.tagger.options import TaggerOptions
from rankport.runtime.kinds.tagger import kind

TAGGER = ExportKind(
    kind.TAGGER, "finds labelled spans in a text", TaggerOptions, "rankport.exporters.kinds.tagger.work"
)
