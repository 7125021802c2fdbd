"""What a figure was measured on."""

import os
import platform
import subprocess
from datetime import UTC, datetime

from rankport.protos.installed.packages import installed_version

_PACKAGES = ("rankport", "torch", "transformers", "onnxruntime", "sentence-transformers", "grpcio", "numpy")


def describe_machine() -> dict[str, object]:
    """Processor, cores, versions, commit and date; no host names or paths."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: installed_version(name) for name in _PACKAGES},
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
