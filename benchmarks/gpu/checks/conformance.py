"""The project's own tests that are marked `gpu`, on the GPU: every backend over every form of graph."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree  # pytest's own report
from pathlib import Path

from benchmarks.gpu.reports.part import arguments

_SUITES = ("tests/runtime", "tests/exporters")
_MOST_TOLD = 10


def main() -> None:
    """Runs them in one process: each device test loads models of its own. Fails if one fails."""
    part = arguments(__doc__)
    report = part.work / "conformance.xml"
    report.unlink(missing_ok=True)
    # A newer torch warns of what an older one does not: that is no test of the GPU.
    command = [
        *(sys.executable, "-m", "pytest", "-v", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider"),
        *(f"--junitxml={report}", *_SUITES),
    ]
    try:
        done = subprocess.run(command, text=True, capture_output=True, timeout=part.left_s)
    except subprocess.TimeoutExpired as late:
        # pytest writes its report at the end.
        said = (late.stdout or b"").decode(errors="replace")
        print(said[-6000:], flush=True)
        for name, value in told(said).items():
            part.figures.add(name, value)
        sys.exit("stopped: out of time")
    print((done.stdout + done.stderr)[-6000:], flush=True)
    found = counts(report)
    for name, value in found.items():
        part.figures.add(name, value)
    # pytest is content where all are skipped.
    sys.exit(done.returncode or (part.device == "cuda" and not found["passed"]))


def told(said: str) -> dict[str, object]:
    """Tests by outcome, of what pytest has said so far."""
    ended = re.findall(r"^(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)", said, re.MULTILINE)
    outcomes = [outcome for _, outcome in ended]
    return {
        "passed": outcomes.count("PASSED"),
        "failed": [name for name, outcome in ended if outcome in ("FAILED", "ERROR")],
        "skipped": outcomes.count("SKIPPED"),
    }


def counts(report: Path) -> dict[str, object]:
    """Tests by outcome, and what those that failed say."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    return {
        "passed": len(cases) - len(failed) - len(skipped),
        "failed": {str(case.get("name")): _reason(case)[:300] for case in failed[:_MOST_TOLD]},
        "skipped": sorted({_reason(case)[:200] for case in skipped}),
    }


def _reason(case: ElementTree.Element) -> str:
    found = (case.find(kind) for kind in ("failure", "error", "skipped"))
    return next((str(one.get("message")) for one in found if one is not None), "")


if __name__ == "__main__":
    main()
