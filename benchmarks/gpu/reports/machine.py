"""The machine of a run: processor and versions, as far as they are known; no host names or paths."""

import importlib.metadata
import os
import platform
from datetime import UTC, datetime

from benchmarks.machine import _processor

_PACKAGES = (
    "torch",
    "triton",
    "transformers",
    "onnxruntime",
    "onnxruntime-gpu",
    "cuda-bindings",
    "cuda-python",
    "tensorrt-rtx",
    "numpy",
    "grpcio",
    "protobuf",
    "tokenizers",
)


def describe_machine() -> dict[str, object]:
    """Here rankport is no installed package, and others may be missing."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "date": datetime.now(UTC).date().isoformat(),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
