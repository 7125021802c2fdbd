"""Options of a proof: what export and verify hand to it, and what verify can be asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from rankport.exporters.options.checks import require_count
from rankport.exporters.options.judged_texts import JudgedText
from rankport.exporters.options.reference_file import Reference, ReferenceTransform
from rankport.exporters.options.request_files import (
    REFERENCE_FLAG,
    TRANSFORM_FLAG,
    RequestFiles,
    StrPath,
    require_store_is_read,
    require_transform,
)
from rankport.exporters.options.requests_file import JudgedRequest
from rankport.exporters.options.tolerance import Tolerance, require_tolerance
from rankport.protos.flags import flag
from rankport.runtime.config import Device
from rankport.runtime.options import refuse_unknown


@dataclass(frozen=True, slots=True)
class ProofOptions:
    """The way in which a bundle is proven."""

    tolerance: Tolerance = field(default_factory=Tolerance)
    judged: Sequence[JudgedRequest] = ()
    reference: Reference | None = None  # what the owner's own pipeline gave
    store: StrPath | None = None  # token store for keys in both
    device: Device = "cpu"  # what runs the bundle; the source is run by torch on the CPU
    allow_unsupported_gpu: bool = False  # TensorRT's plans also on a GPU that it does not list
    judged_texts: Sequence[JudgedText] = ()  # of a classifier
    batch_queries: int | None = (
        None  # requests whose ranking is compared over all batch sizes; None: a few, over three
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """Options of `verify`, beside a bundle and its checkpoint."""

    base: StrPath | None = field(
        default=None,
        metadata=flag("Base checkpoint of an adapter. [default: the folder that its config names]"),
    )
    calibration: StrPath | None = field(
        default=None,
        metadata=flag("The requests that the export was calibrated on, if it was quantized with them."),
    )
    judged: StrPath | None = field(
        default=None,
        metadata=flag(
            'JSONL of judged requests: {"prefix":…, "items":[…], "gains":[…]}; of a classifier {"text":…, "label":…}.'
        ),
    )
    store: StrPath | None = field(
        default=None, metadata=flag("Token store for keys in --judged, --calibration and --reference.")
    )
    device: Device = field(
        default="cpu",
        metadata=flag("What runs the bundle; a CPU emulates half precision. The source is run on the CPU."),
    )
    allow_unsupported_gpu: bool = field(
        default=False,
        metadata=flag(
            "With --device tensorrt: try plans also on a GPU that TensorRT does not list.",
            name="--allow-unsupported-gpu",
        ),
    )
    reference: StrPath | None = field(default=None, metadata=REFERENCE_FLAG)
    reference_transform: ReferenceTransform = field(default="none", metadata=TRANSFORM_FLAG)
    batch_queries: int | None = field(
        default=None,
        metadata=flag(
            "Compares the first ten of so many requests (of --judged, or of random tokens) over passes of 1 item, 2, 4 "
            "and so on to the largest. [default: those of the proof, over three sizes]"
        ),
    )
    tolerance: Tolerance = field(default_factory=Tolerance)

    def __post_init__(self) -> None:
        require_count("batch_queries", self.batch_queries, least=1)
        require_tolerance(
            self.tolerance,
            judged=self.requests.judged is not None,
            reference=self.requests.reference is not None,
        )
        require_transform(self.reference, self.reference_transform)
        require_store_is_read(self.requests)

    @property
    def requests(self) -> RequestFiles:
        """The files of real requests."""
        return RequestFiles(
            self.judged, self.calibration, self.store, self.reference, self.reference_transform
        )


def verify_options(function: str, given: Mapping[str, Any]) -> VerifyOptions:
    """Makes them of a function's keyword arguments. Raises InvalidRequest for one that there is not."""
    names = {described.name for described in fields(VerifyOptions)}
    refuse_unknown(function, [name for name in given if name not in names], VerifyOptions)
    return VerifyOptions(**given)
