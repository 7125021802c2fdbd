"""Whether this machine can run what is marked `gpu`."""

from pathlib import Path

import onnxruntime


def has_cuda() -> bool:
    """An NVIDIA GPU, and an onnxruntime that runs on it."""
    return (
        "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        and Path("/proc/driver/nvidia/version").exists()
    )
