"""The word bag as the table of exports lists it, and its options. Imports no torch."""

from dataclasses import dataclass, field

from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.options.options import ExportOptions
from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag
from support.word_bag.runtime import WORD_BAG


@dataclass(frozen=True, slots=True, kw_only=True)
class WordBagOptions(ExportOptions):
    """Options of a word bag. Raises InvalidRequest for a form that it has not."""

    unit_length: bool = field(default=True, metadata=flag("Unit length for each text."))

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        if self.targets != ("onnx-cpu",) or self.recipe is not None:
            raise InvalidRequest("a word bag is for onnx-cpu, in fp32")


WORD_BAG_EXPORT = ExportKind(
    WORD_BAG, "makes one embedding of a text, without layers", WordBagOptions, "support.word_bag.work"
)
