"""Small requests beside a large one: what they wait, and what the large one loses by it, as ratios.

    python -m benchmarks.fairness [--demo build/demo] [--large 60000] [--out build/bench]

The ranker of `make demo` scores 20 stored items, again and again, alone and while a request of very many is computed:
once with short passes beside small requests (the default) and once with passes as large as any. Both engines then
compute the large request alone, in turns: the ratio of their times is what short passes cost, where there is no small
request to be short for. Medians over rounds in which the engines take turns.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import describe_machine
from rankport.protos.types import Key
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.store.opening import open_store

SMALL_ITEMS = 20
PAUSE_S = 0.01  # between two small requests
CONFIGS = {
    "short passes beside small requests": DEFAULTS,
    "whole passes always": EngineConfig(max_bulk_tokens=DEFAULTS.max_batch_tokens),
}


@dataclass(frozen=True, slots=True)
class Waits:
    """Times of small requests, in seconds."""

    alone_p50: float
    beside_p50: float
    beside_p99: float
    beside: int  # how many there were

    @property
    def ratio(self) -> float:
        """Times that a small request takes as long beside the large one."""
        return self.beside_p50 / self.alone_p50


def main() -> None:
    """Measures and writes fairness.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("build/demo"))
    parser.add_argument("--large", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    if not (arguments.demo / "tokens.lmdb").exists():
        sys.exit("ranker and token store come from the demo: run `make demo` first")
    with ExitStack() as opened:
        store = opened.enter_context(open_store(arguments.demo / "tokens.lmdb", frozen=True))
        rankers = {
            name: opened.enter_context(
                Ranker.load(arguments.demo / "ranker.bundle", store=store, config=config)
            )
            for name, config in CONFIGS.items()
        }
        stored = list(store.namespace(next(iter(store.fingerprints()))).keys())
        large = [Key(stored[place % len(stored)]) for place in range(arguments.large)]
        waits: dict[str, list[Waits]] = {name: [] for name in rankers}
        for _ in range(arguments.rounds):
            for name, ranker in rankers.items():
                waits[name].append(measure_waits(ranker, large))
        alone = measure_alone(rankers, large, arguments.rounds)
    report = {
        "large_items": arguments.large,
        "small": {
            name: asdict(_middle(each)) | {"ratio": _middle(each).ratio} for name, each in waits.items()
        },
        "large_alone_s": alone,
        "large_alone_ratio": alone[min(CONFIGS)] / alone[max(CONFIGS)],
        "machine": describe_machine(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "fairness.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def measure_waits(ranker: Ranker, large: Sequence[Key]) -> Waits:
    """Times small requests alone, then beside the large one until that is done."""
    alone = [_small_s(ranker, large) for _ in range(100)]
    thread = threading.Thread(target=ranker.score, args=({"query": "nurse"}, large))
    thread.start()
    time.sleep(0.2)
    beside = []
    while thread.is_alive():
        beside.append(_small_s(ranker, large))
        time.sleep(PAUSE_S)
    cuts = statistics.quantiles(beside, n=100)
    return Waits(statistics.median(alone), cuts[49], cuts[98], len(beside))


def measure_alone(rankers: dict[str, Ranker], large: Sequence[Key], rounds: int) -> dict[str, float]:
    """Times the large request where no small one is about, each engine in turn."""
    times: dict[str, list[float]] = {name: [] for name in rankers}
    for _ in range(rounds):
        for name, ranker in rankers.items():
            begun_s = time.perf_counter()
            ranker.score({"query": "welder"}, large)
            times[name].append(time.perf_counter() - begun_s)
    return {name: statistics.median(each) for name, each in times.items()}


def _middle(waits: Sequence[Waits]) -> Waits:
    """The round whose ratio is the median."""
    return sorted(waits, key=lambda each: each.ratio)[len(waits) // 2]


def _small_s(ranker: Ranker, items: Sequence[Key]) -> float:
    begun_s = time.perf_counter()
    ranker.score({"query": "resistance welder"}, items[:SMALL_ITEMS])
    return time.perf_counter() - begun_s


if __name__ == "__main__":
    main()
