"""`run_self_test`: the steps one after the other, each in a process that may crash or hang, and a line of each."""

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

from rankport.protos.errors import InvalidRequest
from rankport.runtime.self_test.child import ALLOW

SelfTestDevice = Literal["cpu", "cuda", "tensorrt", "all"]
Verdict = Literal["right", "wrong", "built", "not run", "failed"]

TIMEOUT_S = 120.0
"""Of a step, which takes seconds on an idle machine."""

_STEPS: dict[str, tuple[str, ...]] = {
    "cpu": ("onnxruntime cpu",),
    "cuda": ("onnxruntime cuda",),
    "tensorrt": ("tensorrt build", "tensorrt run", "tensorrt_rtx build", "tensorrt_rtx run"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """Outcome of a step."""

    step: str
    verdict: Verdict
    ran: str  # in words; empty: nothing did
    version: str
    gpu: str  # name and architecture, or the architecture that was built for
    largest_difference: float | None  # of a logit; None where nothing was compared
    limit: float | None
    reason: str  # why it was not run or failed, or what the limit means
    seconds: float


class Children:
    """Processes of the steps, as Python starts them here."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    def command(self, step: str, folder: Path, out: Path, allow_unsupported_gpu: bool) -> list[str]:
        """Returns the command line of a step."""
        flags = [ALLOW] if allow_unsupported_gpu else []
        return [
            *(sys.executable, "-m", "rankport.runtime.self_test.child"),
            *(step, str(folder), str(out), *flags),
        ]

    def run(self, command: list[str]) -> str:
        """Runs one to its end; returns what went wrong, empty if nothing did."""
        try:
            done = subprocess.run(command, capture_output=True, timeout=self._timeout_s, check=False)
        except subprocess.TimeoutExpired:
            return f"stopped after {self._timeout_s:g} s"
        except OSError as error:
            return f"no process for it: {error}"
        if done.returncode == 0:
            return ""
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        words = f": {last[0]}" if last else ""
        if done.returncode < 0:
            return f"crashed: {signal.Signals(-done.returncode).name}{words}"
        return f"exit code {done.returncode}{words}"


def run_self_test(
    device: SelfTestDevice = "all",
    *,
    allow_unsupported_gpu: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
    children: Children | None = None,
) -> tuple[Line, ...]:
    """Runs the small ranker on a device, or on all, and compares. Takes seconds.

    Raises InvalidRequest for a device that there is not, or that lists no GPUs; whatever a library does is a line.
    """
    if device not in get_args(SelfTestDevice):
        raise InvalidRequest(f"device is {device!r}: must be one of {', '.join(get_args(SelfTestDevice))}")
    if allow_unsupported_gpu and device not in ("tensorrt", "all"):
        raise InvalidRequest(
            f"allow_unsupported_gpu is {allow_unsupported_gpu} with device {device!r}: it is of TensorRT's plans: take "
            "--device tensorrt, or leave it out"
        )
    chosen = [step for name, steps in _STEPS.items() if device in (name, "all") for step in steps]
    with TemporaryDirectory(prefix="rankport-self-test-") as folder:
        processes = children or Children()
        return tuple(_lines(chosen, Path(folder), processes, allow_unsupported_gpu, on_step))


def has_failed(lines: tuple[Line, ...]) -> bool:
    """Says whether something that could run was wrong, or broke."""
    return any(line.verdict in ("wrong", "failed") for line in lines)


def _lines(
    steps: list[str],
    folder: Path,
    children: Children,
    allow_unsupported_gpu: bool,
    on_step: Callable[[str], None],
) -> Iterator[Line]:
    built = False
    for step in steps:
        if step.endswith(" run") and not built:
            yield _nothing(step, "not run", "no plan was built", 0.0)
            continue
        on_step(step)
        out, begun = folder / f"{step}.json", time.monotonic()
        problem = children.run(children.command(step, folder, out, allow_unsupported_gpu))
        line = _line(step, out, problem, time.monotonic() - begun)
        built = line.verdict == "built"
        yield line


def _line(step: str, out: Path, problem: str, seconds: float) -> Line:
    if problem or not out.exists():
        return _nothing(step, "failed", problem or "it left no result", seconds)
    found = json.loads(out.read_text(encoding="utf-8"))
    if "cannot" in found or "failed" in found:
        verdict: Verdict = "not run" if "cannot" in found else "failed"
        return _nothing(step, verdict, found.get("cannot") or found["failed"], seconds)
    largest, limit = found["largest_difference"], found["limit"]
    return Line(
        step=step,
        verdict=_verdict(largest, limit),
        ran=found["ran"],
        version=found["version"],
        gpu=found["gpu"],
        # JSON knows no infinity.
        largest_difference=None if largest is None or math.isinf(largest) else largest,
        limit=limit,
        reason=found["note"] or ("answers that are no numbers" if largest == math.inf else ""),
        seconds=round(seconds, 2),
    )


def _verdict(largest: float | None, limit: float | None) -> Verdict:
    if largest is None or limit is None:
        return "built"
    return "right" if largest <= limit else "wrong"


def _nothing(step: str, verdict: Verdict, reason: str, seconds: float) -> Line:
    return Line(step, verdict, "", "", "", None, None, reason, round(seconds, 2))
