"""TensorRT plans of a ranker, built on the spot: as they are served, and without weights; the time and size of each.

Every build is a process of its own: a library that crashes costs one line. On a CPU small plans are built for SM89,
with weights, as TensorRT-RTX strips none there. It keeps no timing cache anywhere.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.reports.figures import Value
from benchmarks.gpu.reports.part import Part, arguments
from rankport.runtime.config import CUDA_DEFAULTS

_STRIPPED = "stripped of weights"
_TOY_TOKENS = 64  # of a pass: the build tries each profile's kernels on this CPU
_TOLD = 400


def main() -> None:
    """Fails if the plans to be served were not built."""
    part = arguments(__doc__)
    part.figures.add("versions", _versions())
    served = _build(part, part.bundle, [])
    part.figures.add("as served", served)
    if served["exit_code"]:
        sys.exit(1)
    if part.on_gpu and part.enough(float(served["seconds"]), _STRIPPED):
        beside = part.work / f"{part.bundle.name}.beside"
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(part.bundle, beside)
        part.figures.add(_STRIPPED, _build(part, beside, ["--force", "--strip-weights"]))
        shutil.rmtree(beside, ignore_errors=True)
    part.figures.add("done", True)


def _build(part: Part, bundle: Path, flags: list[str]) -> dict[str, Value]:
    """Seconds, size and, where it failed, the last that it said."""
    out = part.work / "built.json"
    out.unlink(missing_ok=True)
    target = ["tensorrt-rtx:current", "--allow-unsupported-gpu"] if part.on_gpu else ["tensorrt-rtx:sm89"]
    tokens = str(CUDA_DEFAULTS.max_batch_tokens if part.on_gpu else _TOY_TOKENS)
    command = [
        *(sys.executable, "-m", "rankport.sdk.cli", "build", str(bundle), "--target", *target),
        *("--max-batch-tokens", tokens, "--json", str(out), *flags),
    ]
    begun = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(1.0, part.left_s))
        code, said = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        code, said = 124, "out of time"
    figures: dict[str, Value] = {"exit_code": code, "seconds": time.monotonic() - begun}
    if code == 0 and out.exists():
        return figures | {"plans": json.loads(out.read_text())["plans"]}
    print(said[-4000:], flush=True)
    return figures | {"said": said.strip()[-_TOLD:]}


def _versions() -> dict[str, str]:
    """Versions of the TensorRT modules that are installed, by name."""
    found = {}
    for name in ("tensorrt", "tensorrt_rtx"):
        command = [sys.executable, "-c", f"import {name}; print({name}.__version__)"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            found[name] = done.stdout.strip()
    return found


if __name__ == "__main__":
    main()
