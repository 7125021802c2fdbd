"""A ranker of sets on the CPU: its share of its products' own time, candidates, and histories kept and read anew.

    python -m benchmarks.set_ranking [--rounds 9] [--out build/bench]

LiGR, 4 blocks of 256, a history of 512 events, 500 candidates, in process. The ceiling is the matrix products of a pass
over a kept history and nothing else, each by the faster of two libraries.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import describe_machine
from benchmarks.parts.ceiling import Ceiling, Product
from rankport.exporters.checkpoints.set_ranker.config import SetRankerConfig
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel
from rankport.exporters.export import export
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker

BLOCKS, HIDDEN, HEADS, FFN = 4, 256, 4, 1024
EVENTS, CANDIDATES = 512, 500
COUNTS = (1, 125, 250, 500, 1000)
GOALS = {"share of the products": 0.7, "history read anew / kept": 5.0}


def main() -> None:
    """Measures both masks, prints a table, writes set_ranking.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="default: %(default)s")
    given = parser.parse_args()
    report: dict[str, Any] = {"machine": describe_machine(), "goals": GOALS}
    with tempfile.TemporaryDirectory() as scratch:
        for policy in ("independent", "set-wise"):
            report[policy] = measured(policy, Path(scratch), given.rounds)
            print(policy, json.dumps(report[policy]))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "set_ranking.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measured(policy: str, scratch: Path, rounds: int) -> dict[str, Any]:
    """Measures one mask: medians over rounds, in which all kinds of requests take turns."""
    torch.manual_seed(0)
    SetRankerModel(_config(policy)).save(scratch / policy)
    bundle = export(scratch / policy, scratch / f"{policy}.bundle")
    ceiling, rng = Ceiling(products(policy)), np.random.default_rng(0)
    history = {"event": rng.standard_normal((EVENTS, HIDDEN), np.float32)}
    with SetRanker.load(bundle, config=EngineConfig(threads=torch.get_num_threads())) as ranker:

        def kept(count: int) -> float:
            candidates = {"candidate": rng.standard_normal((count, HIDDEN), np.float32)}
            return _seconds(lambda: ranker.rank(history, candidates))

        def fresh(count: int) -> float:
            candidates = {"candidate": rng.standard_normal((count, HIDDEN), np.float32)}
            unknown = {"event": rng.standard_normal((EVENTS, HIDDEN), np.float32)}
            return _seconds(lambda: ranker.rank(unknown, candidates))

        kept(CANDIDATES), fresh(CANDIDATES), ceiling.seconds()
        times: dict[str, list[float]] = {}
        for _ in range(rounds):
            for count in COUNTS:
                times.setdefault(f"{count} candidates", []).append(kept(count))
            for count in (1, CANDIDATES):
                times.setdefault(f"history read anew, {count} candidates", []).append(fresh(count))
            times.setdefault("ceiling", []).append(ceiling.seconds())
    seconds = {name: statistics.median(values) for name, values in times.items()}
    whole = seconds[f"{CANDIDATES} candidates"]
    return {
        "seconds": seconds,
        "share of the products": seconds["ceiling"] / whole,
        "history read anew / kept": seconds["history read anew, 1 candidates"] / seconds["1 candidates"],
        "request read anew / kept": seconds[f"history read anew, {CANDIDATES} candidates"] / whole,
        "1000 / 250 candidates": seconds["1000 candidates"] / seconds["250 candidates"],
    }


def products(policy: str) -> Counter[Product]:
    """Lists the products of a pass over a kept history."""
    dim = HIDDEN // HEADS
    one: Counter[Product] = Counter(
        [
            (1, CANDIDATES, HIDDEN, 3 * HIDDEN),
            (HEADS, CANDIDATES, dim, EVENTS),
            (HEADS, CANDIDATES, EVENTS, dim),
            (1, CANDIDATES, HIDDEN, HIDDEN),  # after attention, and two gates
            (1, CANDIDATES, HIDDEN, HIDDEN),
            (1, CANDIDATES, HIDDEN, HIDDEN),
            (1, CANDIDATES, HIDDEN, 2 * FFN),
            (1, CANDIDATES, FFN, HIDDEN),
        ]
    )
    if policy == "set-wise":
        one.update([(HEADS, CANDIDATES, dim, CANDIDATES), (HEADS, CANDIDATES, CANDIDATES, dim)])
    total = Counter({product: count * BLOCKS for product, count in one.items()})
    total[(1, CANDIDATES, HIDDEN, HIDDEN)] += 1  # features in
    return total


def _config(policy: str) -> SetRankerConfig:
    def feature(name: str) -> list[dict[str, Any]]:
        return [{"source": "dense", "name": name, "width": HIDDEN}]

    return SetRankerConfig.model_validate(
        {
            "hidden_size": HIDDEN,
            "attention_heads": HEADS,
            "blocks": ["ligr"] * BLOCKS,
            "ffn_multiple": FFN // HIDDEN,
            "towers": [{"name": "all", "outputs": ["click", "dwell", "like"]}],
            "sets": {
                "event": feature("event"),
                "candidate": feature("candidate"),
                "mask": {"policy": policy},
                "max_events": EVENTS,
                "max_candidates": max(COUNTS),
            },
        }
    )


def _seconds(call: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    call()
    return time.perf_counter() - begun_s


if __name__ == "__main__":
    main()
