"""A server under load: its throughput against in process, latencies below its capacity, goodput far above it.

    python -m benchmarks.under_load [--rounds 3] [--seconds 20] [--out build/bench]

The mix shape (prefix 60, 250 items of 2 tokens) on the benchmark's model. Throughput is that of 16 callers who wait for
each answer, in process and over gRPC in turn. Then requests arrive at random at 70 % of what gRPC did, and at ten times
as much, whatever becomes of those before: `rankport loadtest`. Server and clients share this machine. Beside the tail
at 70 % stands that of a queue of one server with equal times of service (M/D/1), simulated for as many arrivals: it
comes from random arrivals alone.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.parts.model import Case, Request, save_checkpoint
from benchmarks.parts.served import drive, serving
from rankport.exporters.export import export
from rankport.protos.messages import wire
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.sdk import Client
from rankport.sdk.loadtest.config import LoadConfig
from rankport.sdk.loadtest.grpc_target import GrpcTarget
from rankport.sdk.loadtest.requests import SCORE, LoadRequest
from rankport.sdk.loadtest.result import OK, LoadResult
from rankport.sdk.loadtest.run import run_rate

CASE = Case(60, 250, 2)
CALLERS = 16
REPEATS = 4
QUIET, FLOOD = 0.7, 10.0  # of the capacity
GOALS = {"gRPC / in process": 0.9, "p99 / p50 at 70 %": 3.0, "goodput at 10 x / peak": 0.9}


def main() -> None:
    """Measures all, prints a table, writes under_load.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="of the flood; four times as much at 70 %%; default: %(default)s",
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="default: %(default)s")
    given = parser.parse_args()
    console = Console()
    requests = [Request.random(CASE, seed) for seed in range(CALLERS)]
    with tempfile.TemporaryDirectory() as scratch:
        with console.status("exporting the benchmark's model (Qwen3 shape, 8 layers x 512)"):
            checkpoint = save_checkpoint(Path(scratch, "checkpoint"))
            export(checkpoint, Path(scratch, "b"), kind="ranker", max_prefix_tokens=512, max_item_tokens=512)
        with console.status("throughput, in process and over gRPC") as status:
            in_process, over_grpc = throughput(Path(scratch, "b"), requests, given.rounds)
            loads = {}
            with serving(Path(scratch, "b")) as address:
                for name, share, seconds in (
                    ("70 %", QUIET, 4 * given.seconds),
                    ("10 x", FLOOD, given.seconds),
                ):
                    status.update(f"requests at {name} of the capacity")
                    loads[name] = asyncio.run(load(address, requests, share * over_grpc, seconds))
    figures = {
        "gRPC / in process": over_grpc / in_process,
        "p99 / p50 at 70 %": loads["70 %"].percentile_s(99) / loads["70 %"].percentile_s(50),
        "goodput at 10 x / peak": loads["10 x"].goodput / over_grpc,
    }
    show(console, figures, loads)
    queue = queue_tail(QUIET, len(loads["70 %"].status))
    console.print(f"p99 / p50 of a queue of equal requests (M/D/1) at 70 %, as many arrivals: {queue:.2f}")
    report = {
        "case": CASE.name,
        "callers": CALLERS,
        "requests_per_s": {"in process": in_process, "gRPC": over_grpc},
        "figures": figures,
        "p99 / p50 of M/D/1 at 70 %": queue,
        "loads": {name: result.as_json() for name, result in loads.items()},
        "machine": describe_machine(),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "under_load.json").write_text(json.dumps(report, indent=2) + "\n")


def throughput(bundle: Path, requests: list[Request], rounds: int) -> tuple[float, float]:
    """Requests a second in process and over gRPC, medians of rounds in turn."""
    rates: tuple[list[float], list[float]] = ([], [])
    with Ranker.load(bundle) as ranker, serving(bundle) as address, Client(address) as client:
        for number in range(rounds + 1):
            for side, score in zip(rates, (ranker.score, client.score), strict=True):
                rate = drive(score, requests, REPEATS)
                if number:  # the first warms up
                    side.append(rate)
    return statistics.median(rates[0]), statistics.median(rates[1])


async def load(address: str, requests: list[Request], rate: float, seconds: float) -> LoadResult:
    """Lets requests arrive at a rate."""
    messages = [
        wire.score_request("", request.prefix, request.items, "error", "skip") for request in requests
    ]
    sent = [LoadRequest(SCORE, message.SerializeToString(), CASE.items) for message in messages]
    target = GrpcTarget(address, connections=4, timeout_s=30.0)
    config = LoadConfig(rate=rate, duration_s=seconds, warm_up_s=2.0, timeout_s=30.0)
    try:
        return await run_rate(target, sent, rate, config, lambda _: None)
    finally:
        await target.close()


def queue_tail(share: float, requests: int, rounds: int = 400) -> float:
    """Simulates p99 / p50 of the time in a queue whose requests take 1 and arrive at random at a rate of `share`."""
    draw = np.random.default_rng(0)
    ratios = []
    for _ in range(rounds):
        free_at, times = 0.0, []
        for due in np.cumsum(draw.exponential(1 / share, requests)).tolist():
            free_at = max(free_at, due) + 1.0
            times.append(free_at - due)
        ratios.append(np.percentile(times, 99, method="higher") / np.percentile(times, 50))
    return float(np.median(ratios))


def show(console: Console, figures: dict[str, float], loads: dict[str, LoadResult]) -> None:
    """Prints figures beside their goals, and what became of the requests."""
    table = Table(title=f"{CASE.name} behind one server", title_justify="left")
    for heading in ("", "measured", "goal"):
        table.add_column(heading)
    for name, value in figures.items():
        sign = "≤" if "p99" in name else "≥"
        table.add_row(name, f"{value:.2f}", f"{sign} {GOALS[name]}")
    console.print(table)
    for name, result in loads.items():
        p50, p99 = (1000 * result.percentile_s(percent) for percent in (50, 99))
        refused = {status: count for status, count in result.by_status.items() if status != OK}
        console.print(
            f"{name}: {result.goodput:.1f} answers/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms, others {refused}"
        )


if __name__ == "__main__":
    main()
