"""The trained ranker of examples/esco on real requests: here exported for CUDA, there verified by `rankport verify`.

    python -m benchmarks.gpu.trained --export build/gpu [--precision bf16]     # after `make demo`
    python -m benchmarks.gpu.trained --skeletons DIR --work DIR --out FILE [--form int8]   # on the GPU; part of `run`

Random weights give random rankings, which rounding swaps at will; whether half precision ranks as fp32 does is a
question to a model that has learned to rank.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.reports.figures import Figures
from benchmarks.gpu.workload.skeletons import restore, write_skeleton
from benchmarks.gpu.workload.weights import CheckpointWeights
from rankport.exporters.export import export

FORMS: dict[str, dict[str, str]] = {
    "esco": {},
    "int8": {"quantize": "int8", "precision": "fp16"},
    "int4": {"quantize": "int4", "precision": "fp16"},
    "fp8": {"quantize": "fp8", "precision": "fp16"},
}
"""Options of the export by name; the first is in the precision that is asked for."""
_WITH_REQUESTS = "esco"
"""Whose skeleton has the judged requests and their tokens, for all."""
CHECKPOINT = Path("examples/esco/checkpoint")
_PROMPT = Path("examples/esco/prompt.toml")
_DEMO = Path("build/demo")


def main() -> None:
    """Exports or verifies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--export", type=Path, help="folder to leave the skeleton in")
    parser.add_argument("--form", choices=[*FORMS], default="esco", help="which of them to verify")
    parser.add_argument("--precision", choices=["bf16", "fp16", "fp32"], default="bf16")
    parser.add_argument("--skeletons", type=Path, default=Path(".gpu/skeletons"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/rankport-gpu"))
    parser.add_argument("--out", type=Path, default=Path("trained.json"))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seconds", type=float, default=600.0, help="that verifying may take")
    given = parser.parse_args()
    if given.export:
        for form, options in FORMS.items():
            _export(given.export, form, {"precision": given.precision} | options)
    else:
        _verify(given)


def _export(to: Path, form: str, options: dict[str, str]) -> None:
    """Parity and ranking quality of it are proven at export, on a CPU; the requests go along for the GPU."""
    bundle = export(
        CHECKPOINT,
        to / f"trained-{form}.bundle",
        kind="ranker",
        item_encoder=_DEMO / "encoder.bundle",
        prompt=_PROMPT,
        target="onnx-cuda",
        overwrite=True,
        on_progress=lambda step: print(f"{form}: {step}", flush=True),
        **options,
    )
    skeleton = write_skeleton(bundle.path, CheckpointWeights(CHECKPOINT), to / f"trained-{form}.skeleton")
    if form == _WITH_REQUESTS:
        shutil.copy(_DEMO / "judged.jsonl", skeleton)
        shutil.copytree(
            _DEMO / "tokens.lmdb", skeleton / "tokens.lmdb", ignore=shutil.ignore_patterns("lock.mdb")
        )


def _verify(given: argparse.Namespace) -> None:
    figures = Figures(given.out)
    skeleton = given.skeletons / f"trained-{given.form}.skeleton"
    bundle = restore(skeleton, given.work / f"trained-{given.form}.bundle")
    verdict = given.work / f"trained-{given.form}.verdict.json"
    verdict.unlink(missing_ok=True)
    requests = given.skeletons / f"trained-{_WITH_REQUESTS}.skeleton"
    command = [
        *(sys.executable, "-m", "rankport.sdk.cli", "verify", str(bundle), "--checkpoint", str(CHECKPOINT)),
        *("--judged", str(requests / "judged.jsonl"), "--store", str(requests / "tokens.lmdb")),
        *("--device", given.device, "--json", str(verdict)),
    ]
    begun = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=given.seconds)
    except subprocess.TimeoutExpired as late:
        # Its steps, a line each as no terminal reads them: the last says where the time went.
        steps = (late.stderr or b"").decode(errors="replace").strip().splitlines()
        figures.add("stopped_after_s", given.seconds)
        figures.add("stopped_at", steps[-1] if steps else "the start")
        sys.exit(f"{given.form}: not verified in {given.seconds:.0f} s")
    print((done.stdout + done.stderr)[-4000:], flush=True)
    figures.add("exit_code", done.returncode)
    figures.add("seconds", round(time.monotonic() - begun, 1))
    if verdict.exists():
        found = json.loads(verdict.read_text())
        figures.add("passed", found["passed"])
        figures.add("failures", found["failures"])
        for mode in found["parity"]["modes"]:
            figures.add(mode.pop("mode"), mode)
        figures.add("quality", found["quality"])
    if done.returncode:
        sys.exit(f"{given.form}: not proven, exit code {done.returncode} of verify")


if __name__ == "__main__":
    main()
