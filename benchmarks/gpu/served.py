"""The bundle through `rankport serve` over gRPC: items/s and latencies by the number of callers.

The best rate counts only from steps whose 99th percentile is at most 500 ms and in which no request failed.
"""

import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.reports.device_facts import device_load
from benchmarks.gpu.reports.energy import metered
from benchmarks.gpu.reports.figures import Value
from benchmarks.gpu.reports.part import Part, arguments, engine_flags
from benchmarks.gpu.workload.load import Answer, LoadGenerator, errors_of, quantile
from benchmarks.gpu.workload.shapes import RequestShape

LIMIT_S = 0.5


def main() -> None:
    """One server for all request shapes of the model."""
    part = arguments(__doc__)
    log = part.work / f"serve.{part.bundle.name}.log"
    try:
        with serving(part, log) as server, LoadGenerator(server.address, part.scale.generators) as load:
            part.figures.add("ready_s", server.ready_s)
            for request in part.requests:
                ramp(part, server, load, request)
    finally:
        print(f"--- end of {log.name}\n{log.read_text()[-3000:]}---", flush=True)
    part.figures.add("done", True)


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that answers."""

    address: str
    pid: int
    ready_s: float

    def cpu_s(self) -> float:
        """Processor time that it has used, and those that it started and that are there."""
        return sum(map(_cpu_s, _family(self.pid)))

    def cpu_of_processes(self) -> dict[int, float]:
        """Processor time of each process by its number, the one that was started first."""
        return {pid: _cpu_s(pid) for pid in _family(self.pid)}


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(part: Part, log: Path, *flags: str) -> Iterator[Serving]:
    """`rankport serve`, from ready to stopped. Raises RuntimeError if it is not ready within the part's time."""
    command = [
        *(sys.executable, "-m", "rankport.sdk.cli", "serve", str(part.bundle), "--port", "0"),
        *engine_flags(part.engine),
        *flags,
    ]
    print(" ".join(command[1:]), flush=True)
    begun = time.monotonic()
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | {"NO_COLOR": "1"}
        )
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    try:
        yield Serving(_address(lines, part), process.pid, time.monotonic() - begun)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[str | None]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line.strip())
    lines.put(None)


def _address(lines: "queue.Queue[str | None]", part: Part) -> str:
    while True:
        try:
            line = lines.get(timeout=max(0.1, part.left_s))
        except queue.Empty:
            raise RuntimeError("the server was not ready in time") from None
        if line is None:
            raise RuntimeError("the server ended before it was ready")
        print(f"serve: {line}", flush=True)
        if "ready on" in line:
            return line.split("ready on", 1)[1].split()[0]


def ramp(part: Part, server: Serving, load: LoadGenerator, request: RequestShape) -> None:
    """Fresh prefixes with more and more callers; at the best number, cached prefixes too."""
    scale = part.scale
    seconds = scale.warm_up_s + scale.step_s
    steps: dict[int, dict[str, Value]] = {}
    over = 0
    load.run(part.workload.model, request, request.callers[-1], scale.warm_up_s)
    for callers in request.callers:
        if over == 2 or not part.enough(seconds + 2, f"{request.name} with {callers} callers"):
            break
        steps[callers] = _step(part, server, load, request, callers, cached=False)
        part.figures.add(f"{request.name} with {callers} callers", steps[callers])
        over += not _meets(steps[callers])
    good = {callers: step for callers, step in steps.items() if _meets(step)}
    best = max(good, key=lambda callers: float(good[callers]["items_per_s"]), default=None)
    summary: dict[str, Value] = {"callers": best} | ({} if best is None else good[best])
    part.figures.add(f"{request.name} best at p99 <= {LIMIT_S * 1e3:.0f} ms", summary)
    if best is not None and part.enough(seconds + 2, f"{request.name}, cached prefixes"):
        step = _step(part, server, load, request, best, cached=True)
        part.figures.add(f"{request.name} with {best} callers, cached prefixes", step)


def _meets(step: dict[str, Value]) -> bool:
    p99 = step["p99_ms"]
    return isinstance(p99, float) and not math.isnan(p99) and p99 <= LIMIT_S * 1e3 and not step["errors"]


def _step(
    part: Part, server: Serving, load: LoadGenerator, request: RequestShape, callers: int, *, cached: bool
) -> dict[str, Value]:
    scale = part.scale
    seen: dict[str, Value] = {}
    sampler = threading.Timer(scale.warm_up_s + scale.step_s / 2, lambda: seen.update(device_load()))
    sampler.start()
    cpu, begun = server.cpu_of_processes(), time.monotonic()
    with metered(part.device) as meter:
        answers, end_s = load.run(
            part.workload.model, request, callers, scale.warm_up_s + scale.step_s, cached=cached
        )
    seconds = time.monotonic() - begun
    cores = [(now - cpu.get(pid, 0.0)) / seconds for pid, now in server.cpu_of_processes().items()]
    sampler.join()
    figures = _figures(answers, request, end_s, scale.step_s)
    flops = part.workload.model.flops(request, cached=cached)
    share = part.share(float(figures["items_per_s"]) / request.items * flops)
    answered = sum(not answer.error for answer in answers)
    return figures | share | meter.figures(answered * request.items) | _cores(cores) | seen


def _cores(of_processes: list[float]) -> dict[str, Value]:
    """Cores that the server kept busy, and its busiest process, which cannot have more than about one."""
    return {"server_cores": sum(of_processes), "busiest_process_cores": max(of_processes)}


def _figures(answers: list[Answer], request: RequestShape, end_s: float, seconds: float) -> dict[str, Value]:
    """Rates and latencies of what was answered in the `seconds` before `end_s`; failures of the whole step."""
    counted = [a for a in answers if not a.error and end_s - seconds < a.ended_s <= end_s]
    latencies = [answer.latency_s for answer in counted]
    return {
        "items_per_s": len(counted) * request.items / seconds,
        "p50_ms": quantile(latencies, 0.5) * 1e3,
        "p99_ms": quantile(latencies, 0.99) * 1e3,
        "answered": len(counted),
        "errors": dict(errors_of(answers)),
        "queue_p50_ms": quantile([answer.queue_s for answer in counted], 0.5) * 1e3,
        "compute_p50_ms": quantile([answer.compute_s for answer in counted], 0.5) * 1e3,
    }


if __name__ == "__main__":
    main()
