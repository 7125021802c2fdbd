"""Time of a query whose prefix is new, against one whose prefix is cached: what the host does, and what the device.

    python -m benchmarks.gpu.run --only fresh --out DIR
    python -m benchmarks.gpu.fresh --device cpu --tiny --work build/gpu-tiny/work --out build/fresh.json  # a rehearsal

Each step of a pass (upload; clear and copies of KV; run; download; wait) is told in calls, host and device milliseconds
a query, with the passes, how they were started, and evictions. What "all" of a stage takes beyond its steps is the
layout. Device times are of events on the stream around each step, which cost the host some microseconds each; on a CPU
the simulated device has its clock.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gpu.in_process import Contender
from benchmarks.gpu.plan import FORMS, PLANS
from benchmarks.gpu.reports.figures import Value
from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.simulated import SimulatedGraph, SimulatedMemory
from benchmarks.gpu.workload.shapes import RequestShape
from rankport.runtime.backends.choice import load_prefix_backend, record_passes
from rankport.runtime.backends.contract import PrefixBackend, RecordingCounts
from rankport.runtime.backends.devices.cuda.memory import CudaMemory
from rankport.runtime.backends.devices.scoring import DevicePrefixBackend, ScoringGraphs
from rankport.runtime.backends.ort.bound_graph import BoundGraph
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.kinds.table import open_bundle

_STEPS = ("upload", "clear", "copy", "allocate", "download")


@dataclass(slots=True)
class Step:
    """Sums of what one kind of step took so far."""

    calls: int = 0
    host_s: float = 0.0
    events: list[tuple[Any, Any]] = field(default_factory=list)  # before and after


class Watch:
    """Steps of all passes, by the stage of the pass: whoever drives the backend is one thread."""

    def __init__(self, stamp: Callable[[Any], Any], elapsed_s: Callable[[Any, Any], float]) -> None:
        """Takes how to note a moment of the device, given its memory, and the seconds between two that are over."""
        self._stamp, self._elapsed_s = stamp, elapsed_s
        self._memory: Any = None
        self.stage = "load"
        self.steps: dict[str, Step] = {}

    def reset(self) -> None:
        """Begins anew."""
        self.steps = {}

    def figures(self, queries: int) -> dict[str, Value]:
        """Tells calls and milliseconds a query of each step."""
        found: dict[str, Value] = {}
        for name, step in sorted(self.steps.items()):
            found[f"{name} calls"] = round(step.calls / queries, 3)
            found[f"{name} host_ms"] = round(step.host_s / queries * 1e3, 4)
            if step.events:
                device_s = sum(self._elapsed_s(before, after) for before, after in step.events)
                found[f"{name} device_ms"] = round(device_s / queries * 1e3, 4)
        return found

    @contextmanager
    def on_device(self, kind: type, names: tuple[str, ...]) -> Iterator[None]:
        """Watches methods that enqueue something on the memory that was last seen."""
        with ExitStack() as undone:
            for name in names:
                undone.enter_context(_replaced(kind, name, self._enqueuing(getattr(kind, name), name)))
            yield

    @contextmanager
    def stages(self) -> Iterator[None]:
        """Watches the passes themselves, and the wait for their results."""
        prefill, start = DevicePrefixBackend.prefill, DevicePrefixBackend.start

        def watched_start(backend: DevicePrefixBackend, batch: Any) -> Any:
            started = self._staged("score", start, backend, batch)
            results = started.results
            return type(started)(lambda: self._staged("wait", results), started.done)

        watched_prefill = lambda backend, batch: self._staged("prefill", prefill, backend, batch)  # noqa: E731
        with (
            _replaced(DevicePrefixBackend, "prefill", watched_prefill),
            _replaced(DevicePrefixBackend, "start", watched_start),
        ):
            yield

    def _staged(self, stage: str, call: Callable[..., Any], *given: Any) -> Any:
        self.stage, begun = stage, time.perf_counter()
        try:
            return call(*given)
        finally:
            self.stage = "between"
            self._add(f"{stage} (all)", time.perf_counter() - begun)

    def _enqueuing(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def watched(owner: Any, *given: Any, **named: Any) -> Any:
            if name != "run":
                self._memory = owner
            before, begun = self._stamp(self._memory), time.perf_counter()
            result = call(owner, *given, **named)
            taken_s = time.perf_counter() - begun
            self._add(f"{self.stage} {name}", taken_s, (before, self._stamp(self._memory)))
            return result

        return watched

    def _add(self, name: str, host_s: float, events: tuple[Any, Any] | None = None) -> None:
        step = self.steps.setdefault(name, Step())
        step.calls += 1
        step.host_s += host_s
        if events is not None:
            step.events.append(events)


def main() -> None:
    """Loads the bundle once, watched."""
    part = arguments(__doc__)
    bundle = open_bundle(part.bundle)
    if part.device == "tensorrt":
        sys.exit(f"--form {PLANS}: a pass of TensorRT has no steps to watch: name a form of CUDA, {FORMS[0]}")
    on_cuda = part.device == "cuda"
    watch = Watch(_cuda_stamp, _cuda_elapsed_s) if on_cuda else Watch(_simulated_stamp, _simulated_elapsed_s)
    memory, graph = (CudaMemory, BoundGraph) if on_cuda else (SimulatedMemory, SimulatedGraph)
    with watch.on_device(memory, _STEPS), watch.on_device(graph, ("run",)), watch.stages():
        begun = time.monotonic()
        backend = load_prefix_backend(bundle, part.engine) if on_cuda else _simulated(bundle)
        engine = Engine(backend, part.engine)
        if on_cuda:
            engine.call(lambda: record_passes(backend)).result()
        load_s = time.monotonic() - begun
        part.figures.add("load", {"load_s": load_s} | _started(backend.recordings))
        try:
            for request in part.requests:
                if part.enough(6 if on_cuda else 0, request.name):
                    _measure(part, engine, watch, request)
        finally:
            engine.close()
    part.figures.add("done", True)


def _measure(part: Part, engine: Engine, watch: Watch, request: RequestShape) -> None:
    contender = Contender.of_engine(part, engine, request)
    contender.round("engine", fresh=True)
    for fresh in (True, False):
        watch.reset()
        before, cache = engine.counts(), engine.cache_stats()
        seconds = contender.round("engine", fresh=fresh)
        queries = contender.queries
        counts = engine.counts()
        found: dict[str, Value] = {"ms": round(seconds * 1e3, 4)} | contender.rates(seconds, fresh=fresh)
        for stage, passed in counts.stages.items():
            known = before.stages.get(stage)
            passes = passed.passes - (known.passes if known else 0)
            found[f"{stage} passes"] = round(passes / queries, 4)
        found["evictions"] = (engine.cache_stats().evictions - cache.evictions) / queries
        found |= _started(counts.recordings, before.recordings) | watch.figures(queries)
        part.figures.add(f"{request.name} {'fresh' if fresh else 'cached'}, a query", found)


def _started(counts: RecordingCounts | None, before: RecordingCounts | None = None) -> dict[str, Value]:
    """Tells how passes were started since another count."""
    if counts is None:
        return {}
    before = before or RecordingCounts()
    return {
        "passes launched": counts.launched - before.launched,
        "passes recorded": counts.recorded - before.recorded,
        "passes replayed": counts.replayed - before.replayed,
        "recording_s": round(counts.recording_s - before.recording_s, 4),
    }


def _simulated(bundle: Bundle) -> PrefixBackend:
    memory = SimulatedMemory()
    graphs = ScoringGraphs(*(SimulatedGraph(bundle.graph(role), memory) for role in ("prefix", "score")))
    return DevicePrefixBackend(bundle.manifest, graphs, memory)


@contextmanager
def _replaced(kind: type, name: str, method: Callable[..., Any]) -> Iterator[None]:
    own = getattr(kind, name)
    setattr(kind, name, method)
    try:
        yield
    finally:
        setattr(kind, name, own)


def _cuda_stamp(memory: CudaMemory) -> Any:
    event = memory.cuda.call("cudaEventCreate")
    memory.cuda.call("cudaEventRecord", event, memory.cuda.handle)
    return memory, event


def _cuda_elapsed_s(before: Any, after: Any) -> float:
    """Seconds between two events, which are given back."""
    memory, first = before
    memory.cuda.call("cudaEventSynchronize", after[1])
    elapsed_ms = memory.cuda.call("cudaEventElapsedTime", first, after[1])
    for event in (first, after[1]):
        memory.cuda.call("cudaEventDestroy", event)
    return float(elapsed_ms) / 1e3


def _simulated_stamp(memory: SimulatedMemory) -> float:
    return memory.done_s


def _simulated_elapsed_s(before: float, after: float) -> float:
    return after - before


if __name__ == "__main__":
    main()
