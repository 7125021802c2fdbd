"""Bounds that the host sets: the session of a GPU over the stub of CUDA, whose kernels take no time.

    make bench-gpu-host                       # exports first; build/gpu-host/host.json

ONNX Runtime's CUDA provider, device layer, scheduling and server are those of a GPU; what they ask of it is counted and
takes nothing. `items_per_busy_core` is what the process that has most to do could answer with a whole core, at least:
with time to spare it makes smaller passes, which cost more an item. Numbers that need a device are left out.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu.reports.figures import write_json
from benchmarks.gpu.without_gpu import stub

_MODELS = ("mixlm", "slm")
_PARTS = (
    "in_process mixlm",
    "served mixlm",
    "served_fronts mixlm",
    "fresh mixlm",
    "in_process slm",
    "served slm",
    "resident mixlm",
)
_FORM = "fp16"
_OF_A_DEVICE = ("mfu", "tflops", "useful_mfu", "device_ms", "power_w", "j_per_1000_items")


def main() -> None:
    """Parts by name, the launches of each model's passes, and a file of what is the host's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--skeletons", type=Path, default=Path("build/gpu"), help="made by benchmarks.gpu.bundles"
    )
    parser.add_argument("--out", type=Path, default=Path("build/gpu-host"))
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--commit", default="unknown")
    given = parser.parse_args()
    if not (stub.FOLDER / ".made").exists():
        sys.exit("there is no stub of CUDA yet: make build/stub_cuda/.made")
    work = given.out / "work"
    bounds = ["--seconds", str(given.seconds), "--commit", given.commit]
    places = ["--skeletons", str(given.skeletons), "--out", str(given.out), "--work", str(work)]
    _python(
        "benchmarks.gpu.run", *places, *bounds, "--strict", "--only", *(f"{part} {_FORM}" for part in _PARTS)
    )
    report = json.loads((given.out / "report.json").read_text())
    launches = {}
    for model in _MODELS:
        out = given.out / f"launches.{model}.json"
        words = ["--model", model, "--form", _FORM, "--work", str(work), "--out", str(out)]
        _python("benchmarks.gpu.without_gpu.launches", *words)
        launches[model] = json.loads(out.read_text())
    parts = {name: _host(part["figures"]) for name, part in report["parts"].items() if part.get("figures")}
    found = {key: report[key] for key in ("machine", "commit")} | {"parts": parts, "launches": launches}
    write_json(given.out / "host.json", found)
    print("\n".join(["", "HOST", *_lines(parts)]))


def _python(module: str, *words: str) -> None:
    if code := subprocess.run(
        [sys.executable, "-m", module, *words], env=stub.environment(), check=False
    ).returncode:
        sys.exit(f"{module} ended with {code}")


def _host(figures: dict[str, Any]) -> dict[str, Any]:
    """Leaves out what only a device could say, and adds what the busiest process could answer with a whole core."""
    found: dict[str, Any] = {}
    for name, value in figures.items():
        if not isinstance(value, dict):
            found[name] = value
            continue
        found[name] = {key: one for key, one in value.items() if not key.endswith(_OF_A_DEVICE)}
        if busy := value.get("busiest_process_cores"):
            found[name]["items_per_busy_core"] = value["items_per_s"] / busy
    return found


def _lines(parts: dict[str, Any]) -> list[str]:
    return [
        f"{name}: {figure}: {value['items_per_s']:,.0f} items/s at {value['busiest_process_cores']:.2f} cores of the "
        f"busiest process, {value['items_per_busy_core']:,.0f} for a whole one"
        for name, figures in parts.items()
        for figure, value in figures.items()
        if isinstance(value, dict)
        and "items_per_busy_core" in value
        and figure.split(" ", 1)[1].startswith("best")
    ]


if __name__ == "__main__":
    main()
