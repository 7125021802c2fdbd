"""Options of a proof: what export and verify hand to it, and what verify can be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rankport.exporters.options.options import RequestFiles, StrPath
from rankport.exporters.options.requests_file import JudgedRequest
from rankport.exporters.options.tolerance import Tolerance
from rankport.protos.flags import flag
from rankport.runtime.config import Device


@dataclass(frozen=True, slots=True)
class ProofOptions:
    """The way in which a bundle is proven."""

    tolerance: Tolerance = field(default_factory=Tolerance)
    judged: Sequence[JudgedRequest] = ()
    store: StrPath | None = None  # token store for keys in `judged`
    device: Device = "cpu"  # what runs the bundle; the source is run by torch on the CPU


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
        default=None, metadata=flag('JSONL of judged requests: {"prefix":…, "items":[…], "gains":[…]}.')
    )
    store: StrPath | None = field(
        default=None, metadata=flag("Token store for keys in --judged and --calibration.")
    )
    device: Device = field(
        default="cpu",
        metadata=flag("What runs the bundle; a CPU emulates half precision. The source is run on the CPU."),
    )
    tolerance: Tolerance = field(default_factory=Tolerance)

    @property
    def requests(self) -> RequestFiles:
        """The files of real requests."""
        return RequestFiles(self.judged, self.calibration, self.store)
