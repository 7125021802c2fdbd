"""The classifier as the table of kinds lists it."""

from rankport.exporters.kinds.classifier.options import ClassifierOptions
from rankport.exporters.kinds.kind import ExportKind
from rankport.runtime.kinds.classifier import kind

CLASSIFIER = ExportKind(
    kind.CLASSIFIER,
    "tells the labels of a text, or of two read together",
    ClassifierOptions,
    "rankport.exporters.kinds.classifier.work",
    judged="texts",
)
