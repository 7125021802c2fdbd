"""The session on a GPU: everything that is measured there, in one command, in the order of its worth, within a time.

    python -m benchmarks.gpu.run --out DIR [--seconds 420] [--earlier REPORT] [--commit HASH] [--engine NAME=VALUE ...]
    OMP_NUM_THREADS=1 python -m benchmarks.gpu.run --out DIR --device cpu --tiny --skeletons build/gpu-tiny

Writes DIR/report.json, again after every figure. Each part runs in a process of its own; one that fails or takes too
long is told in the report and the next one begins. A second call goes on from the report of the first, --earlier: what
ran to its end there stands, on whatever machine.
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
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import Planned, chosen, due, failures, obstacle, seconds_for
from benchmarks.gpu.reports.figures import write_json
from benchmarks.gpu.reports.machine import describe_machine
from benchmarks.gpu.reports.part import engine_config
from benchmarks.gpu.reports.summary import summary
from benchmarks.gpu.workload.skeletons import restore

_GRACE_S = 5.0
_SAME = ("commit", "device", "tiny", "engine")
"""Facts that calls of one report have in common."""


def main() -> None:
    """Runs what is due of the plan."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    given.out.mkdir(parents=True, exist_ok=True)
    given.work.mkdir(parents=True, exist_ok=True)
    run = Run(given, time.monotonic() + given.seconds)
    for planned in due(chosen(given.only or ()), run.parts, given.work):
        run.part(planned)
    print("\n".join(["", "SUMMARY", *summary(run.report)]), flush=True)
    if given.strict and (broken := failures(run.parts)):
        sys.exit(f"failed: {', '.join(broken)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--earlier", type=Path, help="report.json of a call before this one; may be missing")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="toy shapes, for a rehearsal")
    parser.add_argument("--skeletons", type=Path, default=Path(".gpu/skeletons"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/rankport-gpu"), help="scratch of some GB")
    parser.add_argument(
        "--strict", action="store_true", help="exit code 1 if a part was begun and did not end well"
    )
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--engine", nargs="*", default=[], metavar="NAME=VALUE", help="knobs of the engine")
    parser.add_argument(
        "--only", nargs="*", help="parts by module or name, with what they need; default: all"
    )
    given = parser.parse_args()
    try:
        chosen(given.only or ())
        engine_config(given.device, given.engine)
    except ValueError as error:
        parser.error(str(error))
    return given


class Run:
    """The report as far as it has come, and the clock."""

    def __init__(self, given: argparse.Namespace, until: float) -> None:
        self._given = given
        self._until = until
        self.parts: dict[str, Any] = {}
        self.report: dict[str, Any] = {
            "machine": describe_machine(),
            "commit": given.commit,
            "device": given.device,
            "tiny": given.tiny,
            # As it will be read back: a call that goes on compares it.
            "engine": json.loads(json.dumps(dataclasses.asdict(engine_config(given.device, given.engine)))),
            "calls": [],
            "parts": self.parts,
        }
        if given.earlier and given.earlier.exists():
            self._go_on(json.loads(given.earlier.read_text()))
        self._call = len(self.report["calls"])
        self.report["calls"].append({"machine": self.report["machine"], "seconds": given.seconds})
        print(json.dumps(self.report["machine"]), flush=True)
        self._write()

    def _go_on(self, earlier: dict[str, Any]) -> None:
        for name in _SAME:
            if earlier[name] != self.report[name]:
                sys.exit(
                    f"--earlier {self._given.earlier}: its {name} is {earlier[name]!r}, this call's "
                    f"{self.report[name]!r}: leave --earlier out"
                )
        self.report["calls"] = earlier["calls"]
        self.parts.update(earlier["parts"])

    def part(self, planned: Planned) -> None:
        """Runs one, unless time is short or what it needs is missing; says so then."""
        given, left = self._given, self._until - time.monotonic()
        seconds = seconds_for(planned, left, tiny=given.tiny)
        reason = obstacle(planned, self.parts, given.device, lambda name: (given.skeletons / name).exists())
        if reason or seconds is None:
            return self._skip(planned, reason or f"{left:.0f} s left")
        print(f"\n== {planned.name} ({left:.0f} s left, at most {seconds:.0f})", flush=True)
        begun = time.monotonic()
        # What an attempt before this one measured gives way to its own figures, with the first of them.
        self.parts.setdefault(planned.name, {})["outcome"] = "begun"
        self._write()
        try:
            outcome = (
                self._restore(planned) if planned.module == "restore" else self._process(planned, seconds)
            )
        except (OSError, ValueError) as error:
            outcome = f"{type(error).__name__}: {error}"
        part = self.parts[planned.name]
        part |= {
            "outcome": outcome,
            "seconds": round(time.monotonic() - begun, 1),
            "most_s": seconds,
            "call": self._call,
        }
        part.pop("skipped", None)
        print(f"== {planned.name}: {outcome}, {part['seconds']} s", flush=True)
        return self._write()

    def _skip(self, planned: Planned, reason: str) -> None:
        self.parts.setdefault(planned.name, {})["skipped"] = reason
        print(f"\n== {planned.name}: skipped, {reason}", flush=True)
        self._write()

    def _restore(self, planned: Planned) -> str:
        name = f"{planned.model}.{planned.form}"
        restore(self._given.skeletons / f"{name}.skeleton", self._given.work / f"{name}.bundle")
        return "done"

    def _process(self, planned: Planned, seconds: float) -> str:
        given = self._given
        figures = given.work / f"{planned.name.replace(' ', '.')}.json"
        figures.unlink(missing_ok=True)
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            self._command(planned, figures, seconds), start_new_session=True, env=environment
        )
        try:
            return self._outcome(planned, figures, process, time.monotonic() + seconds)
        finally:
            # Also where this process is told to end: nothing is left running.
            if process.poll() is None:
                _stop(process)

    def _outcome(
        self, planned: Planned, figures: Path, process: "subprocess.Popen[bytes]", until: float
    ) -> str:
        while time.monotonic() <= until:
            try:
                code = process.wait(2.0)
                self._take(planned, figures)
                return "done" if code == 0 else f"exit code {code}"
            except subprocess.TimeoutExpired:
                self._take(planned, figures)
        return "stopped: out of time"

    def _command(self, planned: Planned, figures: Path, seconds: float) -> list[str]:
        given = self._given
        module = [sys.executable, "-m", planned.path, "--device", given.device]
        places = ["--work", str(given.work), "--out", str(figures)]
        if planned.module == "trained":
            bounds = ["--seconds", str(max(1.0, seconds - _GRACE_S))]
            return [*module, *places, *bounds, "--skeletons", str(given.skeletons), "--form", planned.model]
        ceilings = self.parts.get("ceilings mixlm", {}).get("figures", {})
        ceiling = ceilings.get(planned.ceiling, 0.0)
        return [
            *(*module, *places, "--model", planned.model),
            *(["--form", planned.form] if planned.form else []),
            *("--seconds", str(max(1.0, seconds - _GRACE_S)), "--ceiling-tflops", str(ceiling)),
            *(["--tiny"] if given.tiny else []),
            *(["--engine", *given.engine] if given.engine else []),
        ]

    def _take(self, planned: Planned, figures: Path) -> None:
        if figures.exists():
            self.parts[planned.name] = {"figures": json.loads(figures.read_text()), "outcome": "begun"}
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
