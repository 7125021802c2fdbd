"""A ranker of sets on the CPU: its share of its products' own time, candidates, and histories kept and read anew.

    python -m benchmarks.set_ranking [--rounds 9] [--out build/bench]

LiGR, 4 blocks of 256, a history of 512 events, 500 candidates, in process. The ceiling is the matrix products of a pass
over a kept history and nothing else, each by the faster of two libraries. Candidates are linear where time grows as
their products do, which with a set-wise mask is faster than their count.
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
from benchmarks.parts.ceiling import Ceiling, Product, flops
from rankport.exporters.checkpoints.set_ranker.config import SetRankerConfig
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel
from rankport.exporters.export import export
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker

BLOCKS, HIDDEN, HEADS, FFN = 4, 256, 4, 1024
EVENTS, CANDIDATES = 512, 500
COUNTS = (1, 125, 250, 500, 1000)
SHARE, KEPT, GROWTH = "share of the products", "history read anew / kept", "growth of time / of products"
LEAST = {SHARE: 0.7, KEPT: 5.0}
MOST = {GROWTH: 1.1}
"""Growth from requests of 250 candidates to those of 1,000."""


def main() -> None:
    """Measures both masks, prints a table, writes set_ranking.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="default: %(default)s")
    given = parser.parse_args()
    report: dict[str, Any] = {"machine": describe_machine(), "goals": {"least": LEAST, "most": MOST}}
    with tempfile.TemporaryDirectory() as scratch:
        for policy in ("independent", "set-wise"):
            report[policy] = measured(policy, Path(scratch), given.rounds)
            print(policy, json.dumps(report[policy]))
            print("\n".join(verdicts(policy, report[policy])))
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
    return judged(policy, {name: statistics.median(values) for name, values in times.items()})


def judged(policy: str, seconds: dict[str, float]) -> dict[str, Any]:
    """Makes figures of medians, and says of each goal whether it is reached."""
    whole, one = seconds[f"{CANDIDATES} candidates"], seconds["1 candidates"]
    growth = seconds["1000 candidates"] / seconds["250 candidates"]
    figures = {
        SHARE: seconds["ceiling"] / whole,
        KEPT: seconds["history read anew, 1 candidates"] / one,
        "request read anew / kept": seconds[f"history read anew, {CANDIDATES} candidates"] / whole,
        "1000 / 250 candidates": growth,
        GROWTH: growth * flops(products(policy, 250)) / flops(products(policy, 1000)),
    }
    reached = {name: figures[name] >= goal for name, goal in LEAST.items()}
    reached |= {name: figures[name] <= goal for name, goal in MOST.items()}
    return {"seconds": seconds, **figures, "reached": reached}


def verdicts(policy: str, figures: dict[str, Any]) -> list[str]:
    """Says each goal in a line."""
    goals = [(LEAST, "at least"), (MOST, "at most")]
    return [
        f"{policy}: {name} {figures[name]:.2f}, {bound} {goal}: "
        f"{'reached' if figures['reached'][name] else 'MISSED'}"
        for group, bound in goals
        for name, goal in group.items()
    ]


def products(policy: str, candidates: int = CANDIDATES) -> Counter[Product]:
    """Lists the products of a pass over a kept history."""
    dim = HIDDEN // HEADS
    one: Counter[Product] = Counter(
        [
            (1, candidates, HIDDEN, 3 * HIDDEN),
            (HEADS, candidates, dim, EVENTS),
            (HEADS, candidates, EVENTS, dim),
            (1, candidates, HIDDEN, HIDDEN),  # after attention, and two gates
            (1, candidates, HIDDEN, HIDDEN),
            (1, candidates, HIDDEN, HIDDEN),
            (1, candidates, HIDDEN, 2 * FFN),
            (1, candidates, FFN, HIDDEN),
        ]
    )
    if policy == "set-wise":
        one.update([(HEADS, candidates, dim, candidates), (HEADS, candidates, candidates, dim)])
    total = Counter({product: count * BLOCKS for product, count in one.items()})
    total[(1, candidates, HIDDEN, HIDDEN)] += 1  # features in
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
