"""The encoder-decoder that writes as the table of kinds lists it."""

from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.seq2seq.options import Seq2SeqOptions
from rankport.runtime.kinds.generator import kind

SEQ2SEQ = ExportKind(
    kind.SEQ2SEQ, "reads a text and writes another", Seq2SeqOptions, "rankport.exporters.kinds.seq2seq.work"
)
