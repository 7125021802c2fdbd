"""Everything that is measured on a GPU, in one command, in the order of its worth and within a time.

    python -m benchmarks.gpu.run --out DIR [--seconds 420] [--commit HASH] [--engine NAME=VALUE ...]
    OMP_NUM_THREADS=1 python -m benchmarks.gpu.run --out DIR --device cpu --tiny --skeletons build/gpu-tiny

Writes DIR/report.json, again after every figure. Each part runs in a process of its own; one that fails or takes too
long is told in the report and the next one begins.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.reports.figures import write_json
from benchmarks.gpu.reports.machine import describe_machine
from benchmarks.gpu.reports.part import engine_config
from benchmarks.gpu.reports.summary import summary
from benchmarks.gpu.workload.skeletons import restore


@dataclass(frozen=True, slots=True)
class Planned:
    """A part, and the seconds that it is worth beginning with and may take at most."""

    module: str
    model: str
    least_s: float
    most_s: float

    @property
    def name(self) -> str:
        """In the report."""
        return f"{self.module} {self.model}"


PLAN = (
    Planned("ceilings", "mixlm", 10, 60),
    Planned("restore", "mixlm", 10, 60),
    Planned("reference", "mixlm", 20, 70),
    Planned("parity", "mixlm", 20, 70),
    Planned("conformance", "mixlm", 30, 150),
    Planned("trained", "esco", 20, 60),
    Planned("trained", "int8", 20, 60),
    Planned("trained", "int4", 20, 60),
    Planned("trained", "fp8", 60, 120),  # 48 s were not enough
    Planned("in_process", "mixlm", 30, 90),
    Planned("fresh", "mixlm", 20, 45),
    Planned("served", "mixlm", 30, 120),
    Planned("restore", "slm", 10, 60),
    Planned("reference", "slm", 15, 40),
    Planned("parity", "slm", 15, 40),
    Planned("in_process", "slm", 20, 40),
    Planned("served", "slm", 20, 50),
    Planned("resident", "mixlm", 20, 60),
    Planned("encoding", "mixlm", 20, 60),
    Planned("peers", "mixlm", 20, 60),
    Planned("peers", "slm", 15, 30),
    Planned("compiled_peers", "mixlm", 60, 180),
    Planned("compiled_peers", "slm", 60, 100),
)
_GRACE_S = 5.0


def main() -> None:
    """Runs the plan."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="toy shapes, for a rehearsal")
    parser.add_argument("--skeletons", type=Path, default=Path(".gpu/skeletons"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/rankport-gpu"), help="scratch of some GB")
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--engine", nargs="*", default=[], metavar="NAME=VALUE", help="knobs of the engine")
    parser.add_argument("--only", nargs="*", help="parts by module or 'module model'; default: all")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    given.work.mkdir(parents=True, exist_ok=True)
    run = Run(given, time.monotonic() + given.seconds)
    for planned in PLAN:
        if not given.only or planned.module in given.only or planned.name in given.only:
            run.part(planned)
    print("\n".join(["", "SUMMARY", *summary(run.report)]), flush=True)


class Run:
    """The report as far as it has come, and the clock."""

    def __init__(self, given: argparse.Namespace, until: float) -> None:
        self._given = given
        self._until = until
        self._parts: dict[str, Any] = {}
        self.report: dict[str, Any] = {
            "machine": describe_machine(),
            "commit": given.commit,
            "device": given.device,
            "tiny": given.tiny,
            "engine": dataclasses.asdict(engine_config(given.device, given.engine)),
            "parts": self._parts,
        }
        print(json.dumps(self.report["machine"]), flush=True)
        self._write()

    def part(self, planned: Planned) -> None:
        """Runs one, unless time is short or what it needs is missing; says so then."""
        left = self._until - time.monotonic()
        least = 0.0 if self._given.tiny else planned.least_s
        if left < least:
            self._parts[planned.name] = {"skipped": f"{left:.0f} s left"}
            print(f"\n== {planned.name}: skipped, {left:.0f} s left", flush=True)
            return self._write()
        seconds = min(left, planned.most_s)
        print(f"\n== {planned.name} ({left:.0f} s left, at most {seconds:.0f})", flush=True)
        begun = time.monotonic()
        try:
            outcome = (
                self._restore(planned) if planned.module == "restore" else self._process(planned, seconds)
            )
        except (OSError, ValueError) as error:
            outcome = f"{type(error).__name__}: {error}"
        part = self._parts.setdefault(planned.name, {})
        part |= {"outcome": outcome, "seconds": round(time.monotonic() - begun, 1)}
        print(f"== {planned.name}: {outcome}, {part['seconds']} s", flush=True)
        return self._write()

    def _restore(self, planned: Planned) -> str:
        name = f"{planned.model}.bundle"
        restore(self._given.skeletons / f"{planned.model}.skeleton", self._given.work / name)
        return "done"

    def _process(self, planned: Planned, seconds: float) -> str:
        given = self._given
        figures = given.work / f"{planned.name.replace(' ', '.')}.json"
        figures.unlink(missing_ok=True)
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            self._command(planned, figures, seconds), start_new_session=True, env=environment
        )
        until = time.monotonic() + seconds
        while True:
            try:
                code = process.wait(2.0)
                self._take(planned, figures)
                return "done" if code == 0 else f"exit code {code}"
            except subprocess.TimeoutExpired:
                self._take(planned, figures)
            if time.monotonic() > until:
                _stop(process)
                return "stopped: out of time"

    def _command(self, planned: Planned, figures: Path, seconds: float) -> list[str]:
        given = self._given
        module = [sys.executable, "-m", f"benchmarks.gpu.{planned.module}", "--device", given.device]
        places = ["--work", str(given.work), "--out", str(figures)]
        if planned.module == "trained":
            bounds = ["--seconds", str(seconds - _GRACE_S)]
            return [*module, *places, *bounds, "--skeletons", str(given.skeletons), "--form", planned.model]
        ceiling = self._parts.get("ceilings mixlm", {}).get("figures", {}).get("bf16_product_tflops", 0.0)
        return [
            *(*module, *places, "--model", planned.model),
            *("--seconds", str(seconds - _GRACE_S), "--ceiling-tflops", str(ceiling)),
            *(["--tiny"] if given.tiny else []),
            *(["--engine", *given.engine] if given.engine else []),
        ]

    def _take(self, planned: Planned, figures: Path) -> None:
        if figures.exists():
            self._parts[planned.name] = {"figures": json.loads(figures.read_text())}
            self._write()

    def _write(self) -> None:
        write_json(self._given.out / "report.json", self.report)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """The part and all that it started."""
    os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    main()
