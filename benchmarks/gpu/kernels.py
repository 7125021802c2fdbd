"""Where a pass spends its time: host before the launch, device in all, and the device's kernels one by one.

    python -m benchmarks.gpu.kernels --model slm --work DIR --out FILE

Passes of several queries as the engine would make them, straight at the backend; kernels as torch's profiler sees them,
whoever started them.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from benchmarks.gpu.reports.figures import Value
from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.workload.runs import Passes
from benchmarks.gpu.workload.shapes import RequestShape
from rankport.runtime.backends.choice import load_prefix_backend
from rankport.runtime.backends.contract import PrefixBackend, PrefixBatch
from rankport.runtime.kinds.table import open_bundle

_ROUNDS = 8
_SHOWN = 24


def main() -> None:
    """Every request shape of the model."""
    part = arguments(__doc__)
    backend = load_prefix_backend(open_bundle(part.bundle), part.engine)
    try:
        for request in part.requests:
            if part.enough(5, request.name):
                measure(part, backend, request)
    finally:
        backend.close()


def measure(part: Part, backend: PrefixBackend, request: RequestShape, *, prefix: str = "") -> None:
    """Passes of as many queries of the shape as fit; figures are named after `prefix`."""
    made = Passes.of(backend, part.workload.model, request, part.engine.max_batch_tokens)
    queries, prefill, score = made.queries, made.prefill, made.score
    # The first run of a shape allocates, and the third may record what later ones replay.
    for _ in range(4):
        backend.prefill(prefill)
        backend.score(score)
    model = part.workload.model
    flops = {
        "prefill": queries * (model.flops(request) - model.flops(request, cached=True)),
        "score": queries * model.flops(request, cached=True),
    }
    passes: dict[str, Callable[[], object]] = {
        "prefill": lambda: (backend.prefill(prefill), backend.score(_one(score)))[0],
        "score": lambda: backend.score(score),
    }
    for name, run in passes.items():
        found = _timed(run)
        if name == "score":
            found |= _started(backend, score)
        if part.ceiling_tflops:
            found["mfu"] = flops[name] / (float(str(found["ms"])) / 1e3) / (part.ceiling_tflops * 1e12)
        part.figures.add(f"{prefix}{request.name} x {queries}, {name}", found)
    part.figures.add(f"{prefix}{request.name} x {queries}, kernels", _kernels(passes["score"]))


def _one(batch: PrefixBatch) -> PrefixBatch:
    """One item of one prefix: a pass to wait for."""
    return PrefixBatch(batch.prefixes[:1], batch.runs.part(0, 1), np.zeros(1, np.int64))


def _timed(run: Callable[[], object]) -> dict[str, Value]:
    times = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return {"ms": statistics.median(times) * 1e3}


def _started(backend: PrefixBackend, batch: PrefixBatch) -> dict[str, Value]:
    """How long the host is busy before it could do something else, and passes that follow each other closely."""
    times = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        started = backend.start(batch)
        times.append(time.perf_counter() - begun)
        started.results()
    begun = time.perf_counter()
    under_way = [backend.start(batch) for _ in range(2)]
    for _ in range(_ROUNDS):
        under_way.append(backend.start(batch))
        under_way.pop(0).results()
    for one in under_way:
        one.results()
    close = (time.perf_counter() - begun) / (_ROUNDS + 2)
    return {"host_ms": statistics.median(times) * 1e3, "pipelined_ms": close * 1e3}


def _kernels(run: Callable[[], object]) -> dict[str, Value]:
    """Milliseconds a pass by kernel, the longest first."""
    import torch

    if not torch.cuda.is_available():
        return {}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(2):
            run()
    spent: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in profile.events():
        spent[event.name[:110]] += event.device_time_total / 2e3
        calls[event.name[:110]] += 1
    print(f"   {sum(spent.values()):8.2f} ms of kernels a pass, {sum(calls.values()) // 2} launches")
    for name, ms in spent.most_common(_SHOWN):
        print(f"   {ms:8.3f} ms {calls[name] // 2:5d} x {name}", flush=True)
    return dict(spent.most_common(_SHOWN))


if __name__ == "__main__":
    main()
