"""What the driver says of the device at a moment."""

import subprocess

from benchmarks.gpu.reports.figures import Value


def device_load() -> dict[str, Value]:
    """Use, memory and power; empty where there is no NVIDIA driver."""
    names = ("utilization.gpu", "memory.used", "power.draw", "clocks.sm")
    command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = done.stdout.strip().split(", ")
    return dict(zip(names, values, strict=True)) if len(values) == len(names) else {}
