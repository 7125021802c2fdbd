"""What the host can feed: the whole path of a request with a device that computes nothing but takes its time.

    python -m benchmarks.gpu.host --bundle build/gpu-bf16/mixlm.bundle

The device is simulated: every call of it lets go of the interpreter, as CUDA's calls do, and a pass takes
3 microseconds a token. Callers submit requests of 250 items, as embeddings, as keys that are read from a store, or as
keys whose tokens stay on the device (`--device-tokens`); the rate that comes out is what tokenizing, queueing, batching
and packing allow on this machine.
"""

import argparse
import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.figures import Figures
from benchmarks.gpu.machine import describe_machine
from benchmarks.gpu.queries import random_prefix, random_query
from benchmarks.gpu.shapes import FULL
from benchmarks.gpu.stored import Catalogue, resident_bytes, stored_catalogue
from rankport.runtime.backends.devices.graph import DeviceArray
from rankport.runtime.backends.devices.memory import Buffer, Side, Transfers
from rankport.runtime.backends.devices.scoring import DevicePrefixBackend, ScoringGraphs
from rankport.runtime.backends.devices.table import DeviceTable
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import CUDA_DEFAULTS
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.store.device_catalogue import OwnedTable, ResidentTokens
from rankport.runtime.store.keyed_items import KeyedItems
from rankport.runtime.store.namespace import TokenNamespace

_SECONDS_A_TOKEN = 3e-6
_REQUESTS, _WINDOW = 256, 96


class SimulatedMemory:
    """`DeviceMemory` of no memory; knows when the device would be done."""

    def __init__(self) -> None:
        self.stream = 0
        self.transfers = Transfers()
        self._libc = ctypes.CDLL(None)
        self._next = 1 << 20
        self._done_s = 0.0

    def busy(self, seconds: float) -> None:
        """Work is enqueued."""
        self._call()
        self._done_s = max(self._done_s, time.perf_counter()) + seconds

    def allocate(self, nbytes: int) -> Buffer:
        self._call()
        self._next += nbytes + 256
        return Buffer(self._next, nbytes, lambda pointer: None)

    def staging(self, nbytes: int) -> NDArray[np.uint8]:
        return np.zeros(nbytes, np.uint8)

    def upload(self, host: NDArray[np.uint8], pointer: int) -> None:
        self._call()

    def download(self, pointer: int, host: NDArray[np.uint8]) -> None:
        host[:] = 0

    def clear(self, pointer: int, nbytes: int) -> None:
        self._call()

    def copy(self, source: Side, target: Side, *, width: int, height: int, depth: int) -> None:
        self._call()

    def mark(self) -> Callable[[], None]:
        self._call()
        done_s = self._done_s
        return lambda: self._call(max(done_s - time.perf_counter(), 0.0))

    def close(self) -> None:
        pass

    def _call(self, seconds: float = 1e-6) -> None:
        self._libc.usleep(int(seconds * 1e6))


class SimulatedGraph:
    """`DeviceGraph` that takes all inputs of a graph for CUDA."""

    host_names: frozenset[str] = frozenset()
    input_names = frozenset(
        ["input_ids", "position_ids", "last_tokens", "embeddings", "embedding_rows", "past_mask", "own_mask"]
    )

    def __init__(self, memory: SimulatedMemory) -> None:
        self._memory = memory

    def run(
        self,
        inputs: Mapping[str, DeviceArray],
        host: Mapping[str, NDArray[np.int64]],
        outputs: Mapping[str, DeviceArray],
        *,
        fixed: int | None = None,
    ) -> None:
        tokens = int(np.prod(inputs["input_ids"].shape))
        self._memory.busy(tokens * _SECONDS_A_TOKEN)

    def close(self) -> None:
        pass


@contextmanager
def simulated_ranker(
    bundle: Bundle, tokens: TokenNamespace | None = None, *, resident: bool
) -> Iterator[Ranker]:
    """The bundle's ranker on that device, with all `tokens` there if they are to be `resident`."""
    manifest = bundle.manifest
    memory = SimulatedMemory()
    graph = SimulatedGraph(memory)
    table = None
    if resident:
        rows = resident_bytes(manifest) // (4 * manifest.shape.hidden_size)
        table = DeviceTable(memory, rows, 2 * CUDA_DEFAULTS.max_batch_tokens, manifest.shape.hidden_size)
    engine = Engine(DevicePrefixBackend(manifest, ScoringGraphs(graph, graph), memory, table), CUDA_DEFAULTS)
    with ExitStack() as opened:
        kept = None
        if tokens is not None and table is not None:
            kept = ResidentTokens(
                tokens, {0: OwnedTable(table, engine.call)}, CUDA_DEFAULTS.device_tokens_refresh_s
            )
            opened.callback(kept.close)
        prompt = PromptEncoder.from_bundle(bundle)
        items = KeyedItems(manifest, tokens, kept)
        yield opened.enter_context(Ranker(manifest, prompt, Replicas({0: engine}), items))


def items_per_s(ranker: Ranker, callers: int, requests: int, catalogue: Catalogue | None = None) -> float:
    """Of `requests` in a closed loop of `_WINDOW` by so many threads; of keys where there is a catalogue."""
    workload = FULL.workloads[0]
    shape = workload.requests[0]
    rng = np.random.default_rng(0)
    items: list[list[Any]] = [list(random_query(workload.model, shape, seed).items) for seed in range(4)]
    if catalogue is not None:
        items = [list(row) for row in catalogue.drawn(16, shape.items)]
    prefixes = [random_prefix(workload.model, shape, rng).tolist() for _ in range(requests)]
    room = threading.Semaphore(_WINDOW)

    def call(first: int) -> None:
        futures: list[Future[Any]] = []
        for index in range(first, requests, callers):
            room.acquire()
            future = ranker.submit(prefixes[index], items[index % len(items)])
            future.add_done_callback(lambda _: room.release())
            futures.append(future)
        for future in futures:
            future.result()

    begun = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(call, range(callers)))
    return requests * shape.items / (time.perf_counter() - begun)


def main() -> None:
    """By callers and by how soon threads give way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("build/gpu-bf16/mixlm.bundle"))
    parser.add_argument("--out", type=Path, default=Path("build/bench/host.json"))
    given = parser.parse_args()
    bundle = open_bundle(given.bundle)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    figures = Figures(given.out)
    figures.add("machine", describe_machine())
    with stored_catalogue(bundle.manifest) as stored:
        for interval_s in (5e-3, 2e-4):
            sys.setswitchinterval(interval_s)
            rates: dict[str, float] = {}
            for name, catalogue, resident in (
                ("embeddings", None, False),
                ("keys, read from the store", stored, False),
                ("keys, tokens on the device", stored, True),
            ):
                tokens = None if catalogue is None else catalogue.tokens
                with simulated_ranker(bundle, tokens, resident=resident) as ranker:
                    items_per_s(ranker, 4, _WINDOW, catalogue)
                    for callers in (1, 4):
                        rates[f"{name}, {callers} callers"] = items_per_s(
                            ranker, callers, _REQUESTS, catalogue
                        )
            figures.add(f"items/s, threads give way after {interval_s * 1e3:g} ms", rates)


if __name__ == "__main__":
    main()
