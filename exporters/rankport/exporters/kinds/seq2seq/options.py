"""Options of the export of an encoder-decoder that writes, beside what every export can."""

from dataclasses import dataclass, field

from rankport.exporters.options.checks import require_count
from rankport.exporters.options.options import ExportOptions
from rankport.exporters.options.shared_flags import PREFIX_OF_TEXTS, STOP_IDS
from rankport.protos.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Seq2SeqOptions(ExportOptions):
    """Options of an encoder-decoder, of which `max_item_tokens` is the longest text that it writes.

    Raises InvalidRequest for a target that it is not made for.
    """

    max_prefix_tokens: int | None = field(default=None, metadata=PREFIX_OF_TEXTS)
    stop_ids: tuple[int, ...] | None = field(default=None, metadata=STOP_IDS)

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        require_count("max_prefix_tokens", self.max_prefix_tokens, least=1)
        if self.targets != ("onnx-cpu",):
            raise InvalidRequest(
                f"--target {','.join(self.targets)}: kind seq2seq is made for onnx-cpu: leave --target out"
            )
