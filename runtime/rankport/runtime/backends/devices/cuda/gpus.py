"""NVIDIA GPUs of this machine and their driver: asked of CUDA, or of nvidia-smi where its bindings are missing.

Owns no device: nothing is allocated. Never raises: a machine without a GPU has none.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NO_GPU = "no NVIDIA GPU here"
DRIVER_FILE = Path("/proc/driver/nvidia/version")
_QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True)
class Gpu:
    """Device of this machine."""

    name: str
    architecture: str  # "sm90"
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Memory of a GPU now, of all processes together."""

    used_bytes: int
    total_bytes: int


def gpu_memory(number: int) -> GpuMemory | None:
    """Asks CUDA for the memory of a GPU that this process uses; None where it does not say."""
    try:
        from cuda.bindings import runtime

        if runtime.cudaSetDevice(number)[0]:  # of this thread alone
            return None
        # A pass that an engine records meanwhile is left alone.
        runtime.cudaThreadExchangeStreamCaptureMode(
            runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        error, free, total = runtime.cudaMemGetInfo()
    except (ImportError, RuntimeError, OSError):
        return None
    return None if error else GpuMemory(total - free, total)


def list_gpus() -> tuple[Gpu, ...]:
    """Lists the GPUs, in CUDA's order."""
    try:
        return tuple(_ask_cuda())
    except (ImportError, RuntimeError, OSError):
        return tuple(_ask_nvidia_smi())


def no_gpu_reason() -> str:
    """Says that `list_gpus` found none, with CUDA's reason where the driver is there, or nvidia-smi shows some."""
    driver, shown = find_driver(), len(_run(("nvidia-smi", "--list-gpus")))
    if driver is None and not shown:
        return NO_GPU
    others = f", nvidia-smi shows {shown}" if shown else ""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    limits = "" if hidden is None else f", CUDA_VISIBLE_DEVICES is {hidden!r}"
    return f"CUDA shows no GPU here (driver {driver or 'unknown'}{others}{limits}): {_cuda_reason()}"


def _cuda_reason() -> str:
    try:
        from cuda.bindings import runtime

        error, _ = runtime.cudaGetDeviceCount()
        _, words = runtime.cudaGetErrorString(error)
    except (ImportError, RuntimeError, OSError) as error:
        return f"cuda-bindings cannot be used: {error}"
    return words.decode() if isinstance(words, bytes) else str(words)


def find_driver(file: Path = DRIVER_FILE) -> str | None:
    """Returns the kernel driver's version, which it writes into `file`, or None if there is none."""
    try:
        words = file.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        lines = _run(("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"))
        return lines[0] if lines else None
    return next((word for word in words if word[:1].isdigit() and "." in word), None)


def find_cuda_of_driver() -> str | None:
    """Returns the newest CUDA that the driver runs, "13.0"; None without a driver or without cuda-bindings."""
    try:
        from cuda.bindings import runtime

        error, version = runtime.cudaDriverGetVersion()
    except (ImportError, RuntimeError, OSError):
        return None
    return f"{version // 1000}.{version % 1000 // 10}" if not error and version else None


def _ask_cuda() -> Iterator[Gpu]:
    from cuda.bindings import runtime

    error, count = runtime.cudaGetDeviceCount()
    for index in range(0 if error else count):
        error, properties = runtime.cudaGetDeviceProperties(index)
        if not error:
            yield Gpu(
                properties.name.decode(),
                f"sm{properties.major}{properties.minor}",
                int(properties.totalGlobalMem),
            )


def _ask_nvidia_smi() -> Iterator[Gpu]:
    for line in _run(_QUERY):
        fields = [field.strip() for field in line.rsplit(",", 2)]
        if len(fields) == 3 and fields[2].isdigit():
            yield Gpu(fields[0], f"sm{fields[1].replace('.', '')}", int(fields[2]) * 2**20)


def _run(command: tuple[str, ...]) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
