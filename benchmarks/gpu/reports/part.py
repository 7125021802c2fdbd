"""What every part of the run is told, and how it starts: each is a process of its own, so that one that fails or is
stopped takes nothing with it, and the device is free again for the next."""

import argparse
import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.plan import FORMS, PLANS
from benchmarks.gpu.reports.figures import Figures, Value
from benchmarks.gpu.workload.shapes import RequestShape, Scale, Workload, scale_of
from rankport.runtime.config import CUDA_DEFAULTS, DEFAULTS, Device, EngineConfig


@dataclass(frozen=True, slots=True)
class Part:
    """Arguments of a part, and its clock."""

    device: Device  # "tensorrt" for bundles in the form `plans`
    scale: Scale
    workload: Workload
    bundle: Path  # of the workload
    requests: tuple[RequestShape, ...]  # of the workload, those that are asked for
    work: Path  # scratch that the parts share
    figures: Figures
    until: float  # on the monotonic clock: nothing new is begun after it
    ceiling_tflops: float  # measured product in what the part computes in, 0 if unknown
    engine: EngineConfig

    @property
    def left_s(self) -> float:
        """Seconds of the part's budget."""
        return self.until - time.monotonic()

    @property
    def on_gpu(self) -> bool:
        """Whether this is the real thing, not its rehearsal."""
        return self.device != "cpu"

    def share(self, flops_per_s: float) -> dict[str, Value]:
        """TFLOP/s, and their share of the ceiling where that was measured."""
        found: dict[str, Value] = {"tflops": flops_per_s / 1e12}
        return found | ({"mfu": found["tflops"] / self.ceiling_tflops} if self.ceiling_tflops else {})

    def enough(self, seconds: float, what: str) -> bool:
        """Whether so much is left; says so where it is not."""
        if self.left_s >= seconds:
            return True
        print(f"skipped for want of time ({self.left_s:.0f} s left): {what}", flush=True)
        return False


def arguments(description: str | None) -> Part:
    """Reads the arguments of this process."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--model", default="mixlm", help="name of the workload's model")
    parser.add_argument("--form", default=FORMS[0], help="of the model's bundle")
    parser.add_argument("--requests", nargs="*", help="names of request shapes; default: the model's")
    parser.add_argument("--work", type=Path, required=True, help="folder of whole bundles, for scratch")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--ceiling-tflops", type=float, default=0.0)
    parser.add_argument("--engine", nargs="*", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    scale = scale_of(given.tiny)
    workload = next(one for one in scale.workloads if one.model.name == given.model)
    device: Device = "tensorrt" if given.form == PLANS and given.device == "cuda" else given.device
    return Part(
        device=device,
        scale=scale,
        workload=workload,
        requests=tuple(one for one in workload.requests if one.name in (given.requests or [one.name])),
        bundle=given.work / f"{given.model}.{given.form}.bundle",
        work=given.work,
        figures=Figures(given.out),
        until=time.monotonic() + given.seconds,
        ceiling_tflops=given.ceiling_tflops,
        engine=engine_config(device, given.engine),
    )


def engine_config(device: Device, knobs: list[str]) -> EngineConfig:
    """Makes a config of NAME=VALUE pairs over the device's own defaults. Raises ValueError for a wrong pair."""
    config, values = _defaults(device), {}
    for pair in knobs:
        name, separator, value = pair.partition("=")
        if not separator or not hasattr(config, name):
            known = ", ".join(field.name for field in dataclasses.fields(config))
            raise ValueError(f"{pair!r} is no knob of the engine: give NAME=VALUE, of {known}")
        values[name] = type(getattr(config, name))(value)
    return dataclasses.replace(config, **values)


def engine_flags(config: EngineConfig) -> list[str]:
    """Makes the flags of `rankport serve`: the device, and every knob that is not at its default there."""
    given, usual = dataclasses.asdict(config), dataclasses.asdict(_defaults(config.device))
    changed = {name: value for name, value in given.items() if value != usual[name] or name == "device"}
    return [word for name, value in changed.items() for word in (_FLAGS.get(name, _flag(name)), str(value))]


_FLAGS = {"device_tokens_bytes": "--device-tokens"}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _defaults(device: Device) -> EngineConfig:
    if device == "tensorrt":
        # TensorRT-RTX lists no H100 or H200: numbers are compared before anything is measured.
        return dataclasses.replace(
            CUDA_DEFAULTS, device="tensorrt", device_rows_bytes=0, allow_unsupported_gpu=True
        )
    return CUDA_DEFAULTS if device == "cuda" else DEFAULTS
