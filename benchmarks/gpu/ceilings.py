"""The device's own ceilings: a large matrix product on random data, and a large copy; and what the device is."""

import statistics
import subprocess
import time
from collections.abc import Callable

import torch

from benchmarks.gpu.reports.energy import metered
from benchmarks.gpu.reports.part import arguments

_ROUNDS = 10
_IDLE_S = 2.0


def main() -> None:
    """Measures both, and before them the power of an idle device."""
    part = arguments(__doc__)
    for name, value in describe_device(part.device).items():
        part.figures.add(name, value)
    if part.device == "cuda":
        with metered(part.device) as meter:
            time.sleep(_IDLE_S)
        part.figures.add("idle_w", meter.watts)
    for name, dtype in {"bf16": torch.bfloat16, "fp16": torch.float16}.items():
        part.figures.add(f"{name}_product_tflops", product_tflops(part.scale.product, part.device, dtype))
    part.figures.add("copy_tb_per_s", copy_tb_per_s(part.scale.copy_bytes, part.device))


def product_tflops(size: int, device: str, dtype: torch.dtype) -> float:
    """Measures a product of two random matrices of this size in half precision."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * size**3 / _seconds(lambda: torch.mm(left, right, out=out), device) / 1e12


def copy_tb_per_s(size_bytes: int, device: str) -> float:
    """Bytes read and bytes written."""
    source = torch.randint(-100, 100, (size_bytes,), dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    return 2 * size_bytes / _seconds(lambda: target.copy_(source), device) / 1e12


def describe_device(device: str) -> dict[str, str]:
    """Name, memory and driver as the driver says them, and torch's own versions."""
    facts = {"torch": str(torch.__version__)}
    if device == "cuda":
        query = "name,memory.total,driver_version,clocks.sm,clocks.max.sm,power.limit"
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        facts |= {"gpu": done.stdout.strip() or done.stderr.strip(), "cuda": str(torch.version.cuda)}
    return facts


def _seconds(run: Callable[[], object], device: str) -> float:
    """Median of several runs after three that do not count."""
    for _ in range(3):
        run()
    return statistics.median(_one(run, device) for _ in range(_ROUNDS))


def _one(run: Callable[[], object], device: str) -> float:
    if device != "cuda":
        begun = time.perf_counter()
        run()
        return time.perf_counter() - begun
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3


if __name__ == "__main__":
    main()
