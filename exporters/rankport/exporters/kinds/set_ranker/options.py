"""Options of the export of a ranker of sets, beside what every export can."""

from dataclasses import dataclass, field
from typing import get_args

from rankport.exporters.options.checks import require_choice
from rankport.exporters.options.options import ExportOptions
from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag
from rankport.runtime.bundle.sections.sets import RowType


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRankerOptions(ExportOptions):
    """Options of a ranker of sets. By default its tables keep their values."""

    table_dtype: RowType | None = field(
        default=None,
        metadata=flag(
            "Values of the tables of ids: float32, float16, or int8 with a scale a row. [default: float32]",
            metavar="DTYPE",
        ),
    )

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        require_choice("table_dtype", self.table_dtype, get_args(RowType))
        if "tensorrt" in self.targets or self.plans:
            raise InvalidRequest(
                f"--target {','.join(self.targets)}: a ranker of sets is exported for onnx-cpu and onnx-cuda, as "
                "TensorRT runs none yet: take those"
            )
        if self.recipe is not None:
            raise InvalidRequest(
                f"--quantize {self.recipe}: a ranker of sets is exported in no low bits: leave it out; --table-dtype "
                "rounds its tables"
            )
        for name in ("prompt", "max_item_tokens", "reference"):
            if getattr(self, name) is not None:
                raise InvalidRequest(
                    f"--{name.replace('_', '-')}: a ranker of sets reads features, no text: leave it out"
                )
