"""What every part of the run is told, and how it starts: each is a process of its own, so that one that fails or is
stopped takes nothing with it, and the device is free again for the next."""

import argparse
import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.figures import Figures
from benchmarks.gpu.shapes import RequestShape, Scale, Workload, scale_of
from rankport.runtime.config import EngineConfig

CUDA_KNOBS = {
    "max_batch_tokens": 16_384,
    "max_prefill_tokens": 8_192,
    "max_active_requests": 128,
    "max_queued_requests": 512,
    "max_queued_tokens": 8_000_000,
    "prefix_cache_bytes": 4 * 2**30,
}
"""An engine's knobs on a GPU, where the command line gives no others: a pass has many queries, and all of a ramp's
calls find room."""


@dataclass(frozen=True, slots=True)
class Part:
    """Arguments of a part, and its clock."""

    device: str  # "cuda" | "cpu"
    scale: Scale
    workload: Workload
    bundle: Path  # of the workload
    requests: tuple[RequestShape, ...]  # of the workload, those that are asked for
    work: Path  # scratch that the parts share
    figures: Figures
    until: float  # on the monotonic clock: nothing new is begun after it
    ceiling_tflops: float  # measured bf16 matrix product, 0 if unknown
    engine: EngineConfig

    @property
    def left_s(self) -> float:
        """Seconds of the part's budget."""
        return self.until - time.monotonic()

    def enough(self, seconds: float, what: str) -> bool:
        """Whether so much is left; says so where it is not."""
        if self.left_s >= seconds:
            return True
        print(f"skipped for want of time ({self.left_s:.0f} s left): {what}", flush=True)
        return False


def arguments(description: str | None) -> Part:
    """Of this process."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--model", default="mixlm", help="name of the workload's model")
    parser.add_argument("--requests", nargs="*", help="names of request shapes; default: the model's")
    parser.add_argument("--work", type=Path, required=True, help="folder of whole bundles, for scratch")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--ceiling-tflops", type=float, default=0.0)
    parser.add_argument("--engine", nargs="*", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    scale = scale_of(given.tiny)
    workload = next(one for one in scale.workloads if one.model.name == given.model)
    return Part(
        device=given.device,
        scale=scale,
        workload=workload,
        requests=tuple(one for one in workload.requests if one.name in (given.requests or [one.name])),
        bundle=given.work / f"{given.model}.bundle",
        work=given.work,
        figures=Figures(given.out),
        until=time.monotonic() + given.seconds,
        ceiling_tflops=given.ceiling_tflops,
        engine=engine_config(given.device, given.engine),
    )


def engine_config(device: str, knobs: list[str]) -> EngineConfig:
    """Of NAME=VALUE pairs over the device's own knobs. A wrong name is an error."""
    config = EngineConfig(**CUDA_KNOBS if device == "cuda" else {}, device=device)  # type: ignore[arg-type]
    pairs = (pair.split("=", 1) for pair in knobs)
    return dataclasses.replace(config, **{name: type(getattr(config, name))(value) for name, value in pairs})


def engine_flags(config: EngineConfig) -> list[str]:
    """The same for `rankport serve`: every knob that is not at its default."""
    fields = dataclasses.fields(EngineConfig)
    given = {field.name: getattr(config, field.name) for field in fields}
    changed = {name: value for name, value in given.items() if value != getattr(EngineConfig(), name)}
    return [word for name, value in changed.items() for word in (f"--{name.replace('_', '-')}", str(value))]
