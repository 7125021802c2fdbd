"""Options of the export of a generator, beside what every export can."""

from dataclasses import dataclass, field
from typing import Literal

from rankport.exporters.options.checks import require_count
from rankport.exporters.options.options import ExportOptions
from rankport.exporters.options.shared_flags import PREFIX_OF_TEXTS, STOP_IDS
from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorOptions(ExportOptions):
    """Options of a generator, of which `max_item_tokens` is the longest text that it writes.

    Raises InvalidRequest for a target that it is not made for.
    """

    max_prefix_tokens: int | None = field(default=None, metadata=PREFIX_OF_TEXTS)
    stop_ids: tuple[int, ...] | None = field(default=None, metadata=STOP_IDS)

    scores: Literal["whole", "beginning"] | None = field(
        default=None,
        metadata=flag(
            "Have a generator answer scoring requests too, by the log-probability of each item behind the prefix: as a "
            "whole text, its end included, or as the beginning of one. [default: it writes alone]"
        ),
    )

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        require_count("max_prefix_tokens", self.max_prefix_tokens, least=1)
        if "tensorrt" in self.targets or self.plans:
            raise InvalidRequest(
                f"--target {','.join(self.targets)}: a generator is made for onnx-cpu and onnx-cuda: give one of them, "
                "or both"
            )
