"""The bundle without a wire: many queries in flight at the engine and at the ranker, and one query alone."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.reports.device_facts import device_load
from benchmarks.gpu.reports.energy import metered
from benchmarks.gpu.reports.figures import Value, quantiles_ms
from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.workload.queries import random_prefix, random_query
from benchmarks.gpu.workload.runs import run_of
from benchmarks.gpu.workload.shapes import RequestShape
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.kinds.ranker.on_devices import engine_of
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.store.keyed_items import KeyedItems
from rankport.runtime.tokens import TokenRun, TokenRuns

_ITEM_SETS = 4
_WINDOWS = 3
"""Queries of a round, as a multiple of those in flight: its start and end, when the device is not full, count less."""
_CALLERS = 4
_LATENCY_CALLS = 120
_MOST_S = 3.0
"""After that no further round of a figure begins."""
Ids = NDArray[np.int64]


def main() -> None:
    """Loads the bundle once."""
    part = arguments(__doc__)
    begun = time.monotonic()
    bundle = open_bundle(part.bundle)
    opened = time.monotonic()
    engine, _ = engine_of(bundle, part.engine)
    prompt, keyed = PromptEncoder.from_bundle(bundle), KeyedItems(bundle.manifest, None)
    ranker = Ranker(bundle.manifest, prompt, Replicas({0: engine}), keyed)
    part.figures.add("load", {"hash_s": opened - begun, "load_s": time.monotonic() - opened})
    with ranker:
        for request in part.requests:
            if part.enough(10 if part.on_gpu else 0, request.name):
                _measure(part, engine, ranker, request)
    part.figures.add("done", True)


def _measure(part: Part, engine: Engine, ranker: Ranker, request: RequestShape) -> None:
    contender = Contender.of(part, engine, ranker, request)
    begun = time.monotonic()
    contender.round("engine", fresh=True, windows=1)
    part.figures.add(f"{request.name} warm-up", {"seconds": time.monotonic() - begun})
    for way in contender.ways:
        for fresh in (True, False):
            figures = contender.measure(way, fresh=fresh)
            part.figures.add(f"{request.name} {way}, {'fresh' if fresh else 'cached'} prefixes", figures)
    part.figures.add(f"{request.name} one query alone", contender.latencies())
    state = {"cache": str(engine.cache_stats()), "recordings": str(engine.counts().recordings)}
    part.figures.add(f"{request.name} device", device_load() | state)


def repeat(run: Callable[[], float], times: int) -> list[float]:
    """Results of at most so many calls, fewer where they take long, at least two."""
    begun, results = time.monotonic(), list[float]()
    while len(results) < times and (len(results) < 2 or time.monotonic() < begun + _MOST_S):
        results.append(run())
    return results


Submit = Callable[[Ids, int], "Future[Any]"]


@dataclass(frozen=True, slots=True)
class Contender:
    """The requests of one shape, and both ways to submit them."""

    part: Part
    request: RequestShape
    ways: dict[str, Submit]

    @classmethod
    def of(cls, part: Part, engine: Engine, ranker: Ranker, request: RequestShape) -> Self:
        """Item sets are made once; the engine has no memory of items."""
        items = [list(random_query(part.workload.model, request, seed).items) for seed in range(_ITEM_SETS)]
        contender = cls.of_engine(part, engine, request)
        contender.ways["ranker"] = lambda prefix, index: ranker.submit(
            prefix.tolist(), items[index % _ITEM_SETS]
        )
        return contender

    @classmethod
    def of_engine(cls, part: Part, engine: Engine, request: RequestShape) -> Self:
        """Requests to the engine alone."""
        runs = [TokenRuns.of(run_of(part.workload.model, request, seed).items) for seed in range(_ITEM_SETS)]
        return cls(
            part,
            request,
            {"engine": lambda prefix, index: engine.submit(TokenRun(prefix), runs[index % _ITEM_SETS])},
        )

    @property
    def queries(self) -> int:
        """Queries of a round."""
        return self.request.queries * _WINDOWS

    def round(self, way: str, *, fresh: bool, windows: int = _WINDOWS) -> float:
        """Seconds of a request, over a round of many."""
        count = self.request.queries * windows
        submit, callers = self.ways[way], 1 if way == "engine" else _CALLERS
        if fresh:
            prefixes = self._prefixes(count)
        else:
            few = self._prefixes(max(1, self.request.queries // 4))
            _drive(submit, few, len(few), callers)
            prefixes = [few[index % len(few)] for index in range(count)]
        return _drive(submit, prefixes, self.request.queries, callers) / count

    def measure(self, way: str, *, fresh: bool) -> dict[str, Value]:
        """Rates by the median round; energy over all of them, the filling of the cache included."""
        with metered(self.part.device) as meter:
            seconds = repeat(partial(self.round, way, fresh=fresh), self.part.scale.rounds)
        items = len(seconds) * _WINDOWS * self.request.queries * self.request.items
        return (
            self.rates(statistics.median(seconds), fresh=fresh)
            | {"rounds": len(seconds)}
            | meter.figures(items)
        )

    def rates(self, seconds: float, *, fresh: bool) -> dict[str, Value]:
        """Computes rates of the seconds of a request."""
        flops = self.part.workload.model.flops(self.request, cached=not fresh)
        return {"items_per_s": self.request.items / seconds} | self.part.share(flops / seconds)

    def latencies(self) -> dict[str, Value]:
        """Milliseconds of one query at a time."""
        found: dict[str, Value] = {}
        for name, prefixes in (
            ("fresh", self._prefixes(_LATENCY_CALLS)),
            ("cached", self._prefixes(1) * _LATENCY_CALLS),
        ):
            for way, submit in self.ways.items():
                pending = iter(prefixes)
                seconds = repeat(lambda s=submit, p=pending: _alone(s, next(p)), _LATENCY_CALLS)  # type: ignore[misc]
                # The first call of a shape may prepare what the others replay.
                found |= {f"{way} {name} {key}": ms for key, ms in quantiles_ms(seconds[1:]).items()}
        return found

    def _prefixes(self, count: int) -> list[Ids]:
        rng = np.random.default_rng()  # never the same twice: nothing of them is cached
        return [random_prefix(self.part.workload.model, self.request, rng) for _ in range(count)]


def _alone(submit: Submit, prefix: Ids) -> float:
    begun = time.perf_counter()
    submit(prefix, 0).result()
    return time.perf_counter() - begun


def _drive(submit: Submit, prefixes: Sequence[Ids], window: int, callers: int) -> float:
    """Seconds until all are answered, `window` of them in flight. Any failure is raised."""
    slots = threading.Semaphore(window)

    def caller(first: int) -> list["Future[Any]"]:
        return list(_submitted(first))

    def _submitted(first: int) -> Iterator["Future[Any]"]:
        for index in range(first, len(prefixes), callers):
            slots.acquire()
            future = submit(prefixes[index], index)
            future.add_done_callback(lambda _: slots.release())
            yield future

    with ThreadPoolExecutor(callers) as pool:
        begun = time.perf_counter()
        for futures in pool.map(caller, range(callers)):
            for future in futures:
                future.result()
        return time.perf_counter() - begun


if __name__ == "__main__":
    main()
