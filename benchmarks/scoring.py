"""Shared-prefix scoring against peers and the machine's own sgemm: table, plot and build/bench/scoring.json.

    python -m benchmarks.scoring [--rounds 5] [--out build/bench]

Every contender scores the same tokens with the same checkpoint and must give the same logits. Runs are interleaved:
one of each per round, medians over the rounds, so that a machine whose speed drifts disturbs all alike.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.parts.ceiling import Ceiling, flops, score_products
from benchmarks.parts.memory import load_footprints
from benchmarks.parts.model import CASES, Case, Request, save_checkpoint
from benchmarks.parts.served import ServedRun, compare_throughput
from benchmarks.peers.scoring import CrossEncoderPeer, TransformersPeer
from rankport.exporters.export import export
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker

PEERS = ("transformers_full", "transformers_repeated_kv", "cross_encoder")
MAX_ABS_DIFFERENCE = 1e-4
OURS = ("rankport", "rankport_cached", "rankport_footprint")


@dataclass(frozen=True, slots=True)
class CaseResult:
    """Medians of one case, in seconds."""

    case: Case
    seconds: dict[str, float]
    ceiling_s: float  # of the cached pass
    gflops: float
    max_abs_difference: float  # between any contender and transformers' full prompts


class Contenders:
    """Everything that answers a request, loaded once."""

    def __init__(self, checkpoint: Path, bundle: Path) -> None:
        self.transformers = TransformersPeer(checkpoint)
        self.cross_encoder = CrossEncoderPeer(checkpoint)
        self.fresh = Ranker.load(bundle, config=EngineConfig(prefix_cache_bytes=0))
        self.cached = Ranker.load(bundle)
        self.footprint = Ranker.load(bundle, config=EngineConfig(prepacking="footprint"))

    def close(self) -> None:
        """Stops the engines."""
        self.fresh.close()
        self.cached.close()
        self.footprint.close()

    def runs(self, request: Request) -> dict[str, Callable[[], NDArray[np.float32]]]:
        """One call per contender. Each gives the head's logit of every item."""
        return {
            "transformers_full": lambda: self.transformers.full_prompts(request),
            "transformers_repeated_kv": lambda: self.transformers.repeated_prefix(request),
            "cross_encoder": lambda: self.cross_encoder.score(request),
            "rankport": lambda: _logits(self.fresh, request),
            "rankport_cached": lambda: _logits(self.cached, request),
            "rankport_footprint": lambda: _logits(self.footprint, request),
        }


def _logits(ranker: Ranker, request: Request) -> NDArray[np.float32]:
    """Scores a request, and gives the head's logit of every item."""
    return ranker.score(request.prefix, request.items).logits[:, 0]


def measure_case(contenders: Contenders, case: Case, rounds: int, on_step: Callable[[], None]) -> CaseResult:
    """One warm-up and `rounds` counted rounds."""
    request = Request.random(case, seed=1)
    ceiling, runs = Ceiling(score_products(case)), contenders.runs(request)
    answers = {name: run() for name, run in runs.items()}
    ceiling.seconds()
    times: dict[str, list[float]] = {name: [] for name in (*runs, "ceiling")}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
            on_step()
        times["ceiling"].append(ceiling.seconds())
    medians = {name: statistics.median(values) for name, values in times.items()}
    ceiling_s = medians.pop("ceiling")
    truth = answers["transformers_full"]
    differences = {name: float(np.abs(answer - truth).max()) for name, answer in answers.items()}
    worst, difference = max(differences.items(), key=lambda entry: entry[1])
    if difference > MAX_ABS_DIFFERENCE:
        raise SystemExit(f"{case.name}: {worst} computes something else: its logits are {difference:.2g} off")
    return CaseResult(case, medians, ceiling_s, flops(ceiling.products) / ceiling_s / 1e9, difference)


def summary(result: CaseResult) -> dict[str, object]:
    """One case as JSON."""
    seconds = result.seconds
    return {
        "prefix": result.case.prefix,
        "items": result.case.items,
        "item_tokens": result.case.item,
        "seconds": seconds,
        "items_per_s": {name: result.case.items / value for name, value in seconds.items()},
        "ceiling_s": result.ceiling_s,
        "ceiling_gflops": result.gflops,
        "cached_share_of_ceiling": result.ceiling_s / seconds["rankport_cached"],
        "speedup_over": {
            name: {
                "uncached": seconds[name] / seconds["rankport"],
                "cached": seconds[name] / seconds["rankport_cached"],
            }
            for name in PEERS
        },
        "max_abs_difference": result.max_abs_difference,
    }


def print_cases(console: Console, results: list[CaseResult]) -> None:
    """Seconds, ratios and share of the ceiling."""
    table = Table(title="Seconds a request (median of interleaved rounds)", title_justify="left")
    table.add_column("prefix + items x tokens")
    headings = (
        "transformers\nfull",
        "repeated\nKV",
        "Cross-\nEncoder",
        "rankport\nfresh",
        "rankport\ncached",
        "cached, no\nprepacking",
        "sgemm\nceiling",
    )
    for heading in (*headings, "cached share\nof ceiling", "fresh vs\nrepeated KV"):
        table.add_column(heading, justify="right")
    for result in results:
        seconds = result.seconds
        table.add_row(
            result.case.name,
            *(f"{seconds[name]:.3f}" for name in (*PEERS, *OURS)),
            f"{result.ceiling_s:.3f}",
            f"{result.ceiling_s / seconds['rankport_cached']:.0%}",
            f"{seconds['transformers_repeated_kv'] / seconds['rankport']:.1f} x",
        )
    console.print(table)


def print_served(console: Console, runs: list[ServedRun]) -> None:
    """Throughput in process and over gRPC."""
    table = Table(
        title="4 concurrent callers, cached prefixes: items/s (median of interleaved rounds)",
        title_justify="left",
    )
    table.add_column("prefix + items x tokens")
    for heading in ("in process", "over gRPC", "gRPC share"):
        table.add_column(heading, justify="right")
    for run in runs:
        table.add_row(run.case.name, f"{run.in_process:,.0f}", f"{run.over_grpc:,.0f}", f"{run.share:.0%}")
    console.print(table)


def main() -> None:
    """Runs everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    with tempfile.TemporaryDirectory() as scratch:
        console.print("exporting the benchmark's model (Qwen3 shape, 8 layers x 512) ...")
        checkpoint = save_checkpoint(Path(scratch, "checkpoint"))
        bundle = export(
            checkpoint, Path(scratch, "bench"), kind="ranker", max_prefix_tokens=512, max_item_tokens=512
        )
        contenders = Contenders(checkpoint, bundle.path)
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("cases", total=len(CASES) * arguments.rounds * len((*PEERS, *OURS)))
            results = [
                measure_case(contenders, case, arguments.rounds, lambda: progress.advance(task))
                for case in CASES
            ]
        contenders.close()
        served = compare_throughput(bundle.path, CASES, arguments.rounds)
        footprints = load_footprints(bundle.path)
    print_cases(console, results)
    print_served(console, served)
    for footprint in footprints:
        console.print(str(footprint))
    report = {
        "machine": describe_machine(),
        "rounds": arguments.rounds,
        "threads": torch.get_num_threads(),
        "cases": [summary(result) for result in results],
        "served": [run.as_json() for run in served],
        "memory": [footprint.as_json() for footprint in footprints],
    }
    path = arguments.out / "scoring.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"figures: {path}")


if __name__ == "__main__":
    main()
