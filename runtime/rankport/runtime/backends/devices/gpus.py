"""The NVIDIA GPUs of this machine and their driver: asked of CUDA, or of nvidia-smi where its bindings are missing.

Owns no device: nothing is allocated. Never raises: a machine without a GPU has none.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device."""

    name: str
    architecture: str  # "sm90"
    memory_bytes: int


def gpus() -> tuple[Gpu, ...]:
    """In CUDA's order."""
    try:
        return tuple(_of_cuda())
    except (ImportError, RuntimeError, OSError):
        return tuple(_of_nvidia_smi())


def driver() -> str | None:
    """The kernel driver's version, or None if there is none."""
    try:
        words = _DRIVER_FILE.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        lines = _lines(("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"))
        return lines[0] if lines else None
    return next((word for word in words if word[:1].isdigit() and "." in word), None)


def cuda_of_driver() -> str | None:
    """The newest CUDA that the driver runs, "13.0"; None without a driver or without cuda-bindings."""
    try:
        from cuda.bindings import runtime

        error, version = runtime.cudaDriverGetVersion()
    except (ImportError, RuntimeError, OSError):
        return None
    return f"{version // 1000}.{version % 1000 // 10}" if not error and version else None


def _of_cuda() -> Iterator[Gpu]:
    from cuda.bindings import runtime

    error, count = runtime.cudaGetDeviceCount()
    for index in range(0 if error else count):
        error, found = runtime.cudaGetDeviceProperties(index)
        if not error:
            yield Gpu(found.name.decode(), f"sm{found.major}{found.minor}", int(found.totalGlobalMem))


def _of_nvidia_smi() -> Iterator[Gpu]:
    for line in _lines(_QUERY):
        fields = [field.strip() for field in line.rsplit(",", 2)]
        if len(fields) == 3 and fields[2].isdigit():
            yield Gpu(fields[0], f"sm{fields[1].replace('.', '')}", int(fields[2]) * 2**20)


def _lines(command: tuple[str, ...]) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
