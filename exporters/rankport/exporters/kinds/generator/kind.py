"""The generator as the table of kinds lists it."""

from rankport.exporters.kinds.generator.options import GeneratorOptions
from rankport.exporters.kinds.kind import ExportKind
from rankport.runtime.kinds.generator import kind

GENERATOR = ExportKind(
    kind.GENERATOR, "writes text behind a prompt", GeneratorOptions, "rankport.exporters.kinds.generator.work"
)
