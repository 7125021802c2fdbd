"""`rankport doctor --self-test` on this machine: ONNX Runtime on CUDA, and the plans of each TensorRT installed."""

import json
import subprocess
import sys

from benchmarks.gpu.reports.part import arguments


def main() -> None:
    """Fails if a step is wrong or broke."""
    part = arguments(__doc__)
    out = part.work / "self-test.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "rankport.sdk.cli", "doctor", "--self-test", "--json", str(out)]
    # A CPU has one device to try; a GPU that TensorRT-RTX does not list is tried all the same.
    command += ["--allow-unsupported-gpu"] if part.on_gpu else ["--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=part.left_s)
    print((done.stdout + done.stderr)[-4000:], flush=True)
    for number, line in enumerate(json.loads(out.read_text())["self_test"]):
        part.figures.add(f"step {number}", line)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
