"""A server under load: its throughput against in process, latencies below its capacity, goodput far above it.

    python -m benchmarks.under_load [--rounds 3] [--seconds 20] [--beside FLAGS] [--out build/bench]

The mix shape (prefix 60, 250 items of 2 tokens) on the benchmark's model. Throughput is that of 16 callers who wait for
each answer, in process and over gRPC in turn. Then requests arrive at random at 70 % of what gRPC did, and at ten times
as much, whatever becomes of those before: `rankport loadtest`. Server and clients share this machine. Goodput counts
the answers that came while requests did: what a queue still holds at the end says nothing of the pace.

Beside the tail at 70 % stands that of a queue of one server with equal times of service (M/D/1), simulated for as many
arrivals: it comes from random arrivals alone. What the slowest and the middle requests spent their time on, their
replies say.

`--beside="--max-shared-pass-s 3600"` measures a second server with those flags in turn with the first, at its rates.
"""

import argparse
import asyncio
import json
import shlex
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.parts.model import Case, Request, save_checkpoint
from benchmarks.parts.served import drive, serving
from rankport.exporters.export import export
from rankport.protos.messages import wire
from rankport.protos.priorities import Priority
from rankport.protos.v1.rankport_pb2 import ScoreResponse
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.sdk import Client
from rankport.sdk.loadtest.config import LoadConfig
from rankport.sdk.loadtest.grpc_target import GrpcTarget
from rankport.sdk.loadtest.requests import SCORE, LoadRequest
from rankport.sdk.loadtest.result import OK, Ended, LoadResult
from rankport.sdk.loadtest.run import run_rate

CASE = Case(60, 250, 2)
CALLERS = 16
REPEATS = 4
QUIET, FLOOD = 0.7, 10.0  # of the capacity
WARM_UP_S = 2.0
TIMEOUT_S = 30.0
GOALS = {"gRPC / in process": 0.9, "p99 / p50 at 70 %": 3.0, "goodput at 10 x / peak": 0.9}

Phases = dict[str, dict[str, float]]
"""Milliseconds by phase, of the middle and of the slowest requests."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A server under each load."""

    name: str
    in_process: float  # requests a second
    over_grpc: float
    quiet: LoadResult
    phases: Phases  # when quiet
    flood: LoadResult

    @property
    def flood_goodput(self) -> float:
        """Answers a second that came while requests did."""
        ended_s = (self.flood.due_s + self.flood.latency_s)[self.flood.answered]
        return float((ended_s <= self.flood.duration_s).sum()) / self.flood.duration_s

    @property
    def figures(self) -> dict[str, float]:
        """Figures by the names of their goals."""
        return {
            "gRPC / in process": self.over_grpc / self.in_process,
            "p99 / p50 at 70 %": self.quiet.percentile_s(99) / self.quiet.percentile_s(50),
            "goodput at 10 x / peak": self.flood_goodput / self.over_grpc,
        }

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return {
            "server": self.name,
            "requests_per_s": {"in process": self.in_process, "gRPC": self.over_grpc},
            "figures": self.figures,
            "phases_ms at 70 %": self.phases,
            "answers_per_s at 10 x": self.flood_goodput,
            "loads": {"70 %": self.quiet.as_json(), "10 x": self.flood.as_json()},
        }


class PhasesTarget(GrpcTarget):
    """Server whose replies say what each request waited for."""

    def __init__(self, address: str) -> None:
        super().__init__(address, connections=4, timeout_s=TIMEOUT_S)
        self._spent: list[dict[str, float]] = []  # by each answered request, milliseconds by phase

    async def send(self, request: LoadRequest, priority: Priority = "interactive") -> Ended:
        """Sends a request and notes what it spent its time on."""
        begun_s = time.perf_counter()
        ended = await super().send(request, priority)
        whole_s = time.perf_counter() - begun_s
        if ended.status == OK:
            usage = ScoreResponse.FromString(ended.reply).usage
            told = {"tokenize": usage.tokenize_s, "queue": usage.queue_s, "compute": usage.compute_s}
            spent = told | {"rest": whole_s - sum(told.values())}
            self._spent.append({phase: 1000 * seconds for phase, seconds in spent.items()})
        return ended

    def phases(self) -> Phases:
        """Averages over the middle tenth of the requests, and over the slowest hundredth."""
        ordered = sorted(self._spent, key=lambda spent: sum(spent.values()))
        places = {"middle": (0.45, 0.55), "slowest": (0.99, 1.0)}
        parts = {
            name: ordered[int(start * len(ordered)) : max(round(end * len(ordered)), 1)]
            for name, (start, end) in places.items()
        }
        return {
            name: {phase: statistics.fmean(spent[phase] for spent in part) for phase in part[0]}
            for name, part in parts.items()
            if part
        }


def main() -> None:
    """Measures all, prints tables, writes under_load.json."""
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
    parser.add_argument("--beside", help="flags of a second server, to compare")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="default: %(default)s")
    given = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        with console.status("exporting the benchmark's model (Qwen3 shape, 8 layers x 512)"):
            checkpoint = save_checkpoint(Path(scratch, "checkpoint"))
            export(checkpoint, Path(scratch, "b"), kind="ranker", max_prefix_tokens=512, max_item_tokens=512)
        servers = ["", *([given.beside] if given.beside else [])]
        measured = measure(Path(scratch, "b"), servers, given.rounds, given.seconds, console)
    for each in measured:
        show(console, each)
    queue = queue_tail(QUIET, len(measured[0].quiet.status))
    console.print(f"p99 / p50 of a queue of equal requests (M/D/1) at 70 %, as many arrivals: {queue:.2f}")
    report = {
        "case": CASE.name,
        "callers": CALLERS,
        **measured[0].as_json(),
        "p99 / p50 of M/D/1 at 70 %": queue,
        "beside": [each.as_json() for each in measured[1:]],
        "machine": describe_machine(),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "under_load.json").write_text(json.dumps(report, indent=2) + "\n")


def measure(
    bundle: Path, servers: Sequence[str], rounds: int, seconds: float, console: Console
) -> list[Measured]:
    """Measures a server for each string of flags, all at the rates that follow from the first one's throughput."""
    requests = [Request.random(CASE, seed) for seed in range(CALLERS)]
    results = list[Measured]()
    with ExitStack() as served, console.status("throughput, in process and over gRPC") as status:
        addresses = [served.enter_context(serving(bundle, *shlex.split(flags))) for flags in servers]
        in_process, over_grpc = throughput(bundle, addresses, requests, rounds)
        for flags, address, reached in zip(servers, addresses, over_grpc, strict=True):
            name = f"serve {flags}".rstrip()
            status.update(f"{name}: requests at 70 % of the capacity")
            quiet, phases = asyncio.run(load(address, requests, QUIET * over_grpc[0], 4 * seconds, WARM_UP_S))
            status.update(f"{name}: requests at 10 x the capacity")
            flood, _ = asyncio.run(load(address, requests, FLOOD * over_grpc[0], seconds, 0.0))
            results.append(Measured(name, in_process, reached, quiet, phases, flood))
    return results


def throughput(
    bundle: Path, addresses: Sequence[str], requests: list[Request], rounds: int
) -> tuple[float, list[float]]:
    """Requests a second in process, and over gRPC of each server, medians of rounds in turn."""
    with ExitStack() as opened:
        scores = [opened.enter_context(Ranker.load(bundle)).score]
        scores += [opened.enter_context(Client(address)).score for address in addresses]
        rates: list[list[float]] = [[] for _ in scores]
        for number in range(rounds + 1):
            for side, score in zip(rates, scores, strict=True):
                rate = drive(score, requests, REPEATS)
                if number:  # the first warms up
                    side.append(rate)
    in_process, *over_grpc = map(statistics.median, rates)
    return in_process, over_grpc


async def load(
    address: str, requests: list[Request], rate: float, seconds: float, warm_up_s: float
) -> tuple[LoadResult, Phases]:
    """Lets requests arrive at a rate. Gives what became of them, and what the answered ones spent their time on."""
    messages = [
        wire.score_request("", request.prefix, request.items, "error", "skip") for request in requests
    ]
    sent = [LoadRequest(SCORE, message.SerializeToString(), CASE.items) for message in messages]
    target = PhasesTarget(address)
    config = LoadConfig(rate=rate, duration_s=seconds, warm_up_s=warm_up_s, timeout_s=TIMEOUT_S)
    try:
        return await run_rate(target, sent, rate, config, lambda _: None), target.phases()
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


def show(console: Console, measured: Measured) -> None:
    """Prints figures beside their goals, and what became of the requests."""
    table = Table(title=f"{CASE.name} behind `{measured.name}`", title_justify="left")
    for heading in ("", "measured", "goal"):
        table.add_column(heading)
    for name, value in measured.figures.items():
        sign = "≤" if "p99" in name else "≥"
        table.add_row(name, f"{value:.2f}", f"{sign} {GOALS[name]}")
    console.print(table)
    for name, result in (("70 %", measured.quiet), ("10 x", measured.flood)):
        p50, p99 = (1000 * result.percentile_s(percent) for percent in (50, 99))
        refused = {status: count for status, count in result.by_status.items() if status != OK}
        console.print(
            f"{name}: {result.rate:.1f} requests/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms, others {refused}"
        )
    console.print(
        f"over gRPC {measured.over_grpc:.2f} requests/s, in process {measured.in_process:.2f}, "
        f"at 10 x {measured.flood_goodput:.2f} answers/s"
    )
    for name, spent in measured.phases.items():
        parts = ", ".join(f"{phase} {milliseconds:.1f} ms" for phase, milliseconds in spent.items())
        console.print(f"{name} requests at 70 %: {parts}")


if __name__ == "__main__":
    main()
