"""Launches of a pass, counted without a GPU: kernels by name, copies, recordings, and the host's part in time.

    make bench-gpu-host                                      # among others; build/gpu-host/host.json
    python -m benchmarks.gpu.without_gpu.launches --model mixlm --work DIR --out FILE

ONNX Runtime's own CUDA provider runs the bundle as it would on a GPU, over a CUDA whose kernels do nothing. Passes are
those of `kernels`, which times them where there is a GPU.
"""

import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable

from benchmarks.gpu.reports.figures import Value
from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.without_gpu import stub
from benchmarks.gpu.workload.runs import Passes
from benchmarks.gpu.workload.shapes import RequestShape
from rankport.runtime.backends.choice import load_prefix_backend
from rankport.runtime.backends.contract import PrefixBackend
from rankport.runtime.kinds.table import open_bundle

_ROUNDS = 20
_SHOWN = 30


def main() -> None:
    """Every request shape of the model."""
    stub.enter("benchmarks.gpu.without_gpu.launches")
    part = arguments(__doc__)
    begun = time.monotonic()
    backend = load_prefix_backend(open_bundle(part.bundle), part.engine)
    part.figures.add("load", {"seconds": time.monotonic() - begun})
    try:
        for request in part.requests:
            _measure(part, backend, request)
    finally:
        backend.close()
    for fault in stub.take_faults():
        sys.exit(f"CUDA would have refused: {fault}")


def _measure(part: Part, backend: PrefixBackend, request: RequestShape) -> None:
    made = Passes.of(backend, part.workload.model, request, part.engine.max_batch_tokens)
    stub.take_launches()
    for name, run in {
        "prefill": lambda: backend.prefill(made.prefill),
        "score": lambda: backend.score(made.score),
    }.items():
        part.figures.add(
            f"{request.name} x {made.queries}, {name}", _counted(part.workload.model.layers, run)
        )


def _counted(layers: int, run: Callable[[], object]) -> dict[str, Value]:
    """Counts a pass that launches its kernels, and times it and one that is replayed."""
    first = _taken(run)
    alone = time.perf_counter()
    run()
    alone = time.perf_counter() - alone
    run()
    stub.take_launches()
    times = []
    for _ in range(_ROUNDS):
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    replayed = stub.take_launches()
    found = stub.kernels(first)
    print(f"   {sum(found.values())} kernels a pass, {sum(found.values()) / layers:.1f} a layer")
    for name, count in found.most_common(_SHOWN):
        print(f"   {count:6d} {count / layers:6.1f} a layer  {name[:150]}")
    return {
        "kernels": sum(found.values()),
        "kernels_a_layer": sum(found.values()) / layers,
        "launched_ms": alone * 1e3,
        "replayed_host_ms": statistics.median(times) * 1e3,
        "replays": replayed["replays"] / _ROUNDS,
        **{name: count for name, count in first.items() if name.startswith("bytes, ")},
        "by_kernel": dict(_families(found).most_common()),
    }


def _taken(run: Callable[[], object]) -> Counter[str]:
    stub.take_launches()
    run()
    return stub.take_launches()


def _families(found: Counter[str]) -> Counter[str]:
    """Sums kernels by their names without template arguments."""
    families: Counter[str] = Counter()
    for name, count in found.items():
        families[re.sub(r"^void ", "", re.split(r"[<(]", name, maxsplit=1)[0])] += count
    return families


if __name__ == "__main__":
    main()
