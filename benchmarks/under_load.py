"""A server under load: its throughput against in process, latencies below its capacity, goodput far above it.

    python -m benchmarks.under_load [--rounds 3] [--seconds 20] [--turns 3] [--flags FLAGS] [--beside FLAGS] [--out DIR]

The mix shape (prefix 60, 250 items of 2 tokens) on the benchmark's model. Throughput is that of 16 callers who wait for
each answer, in process and over gRPC in turn. Then requests arrive at random at 70 % of what gRPC did, and at ten times
as much, whatever becomes of those before: `rankport loadtest`. At 70 % they arrive a second time, from 16 clients of a
constant rate and a random phase each, as wrk2 and perf_analyzer have them. Server and clients share this machine.
Goodput counts the answers that came while requests did: what a queue still holds at the end says nothing of the pace.

Beside the tail at 70 % stands that of a queue of one server with equal times of service (M/D/1), simulated for as many
arrivals: it comes from random arrivals alone. What the slowest and the middle requests spent their time on, their
replies say.

`--beside="--instances 2"` measures a second server with those flags at the rates of the first. Each load comes in
`--turns` parts, of the first server and of the second in turn, so that both see the machine as it is at the time;
figures are of all parts together.
"""

import argparse
import json
import shlex
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.parts.loads import LOADS, QUIET, Measured, ServerLoads, messages
from benchmarks.parts.model import Case, Request, save_checkpoint
from benchmarks.parts.served import drive, serving
from rankport.exporters.export import export
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.sdk import Client
from rankport.sdk.loadtest.result import OK

CASE = Case(60, 250, 2)
CALLERS = 16
REPEATS = 4
GOALS = {
    "gRPC / in process": 0.9,
    "p99 / p50 at 70 %": 3.0,
    "p99 / p50 at 70 %, constant": 3.0,
    "goodput at 10 x / peak": 0.9,
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
    parser.add_argument(
        "--turns",
        type=int,
        default=3,
        help="parts of each load, of the servers in turn; default: %(default)s",
    )
    parser.add_argument("--flags", default="", help="flags of the server; default: none")
    parser.add_argument("--beside", help="flags of a second server, to compare")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="default: %(default)s")
    given = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        with console.status("exporting the benchmark's model (Qwen3 shape, 8 layers x 512)"):
            checkpoint = save_checkpoint(Path(scratch, "checkpoint"))
            export(checkpoint, Path(scratch, "b"), kind="ranker", max_prefix_tokens=512, max_item_tokens=512)
        servers = [given.flags, *([given.beside] if given.beside else [])]
        measured = measure(Path(scratch, "b"), servers, given.rounds, (given.seconds, given.turns), console)
    for each in measured:
        show(console, each)
    queue = queue_tail(LOADS[0].of_capacity, len(measured[0].loads[QUIET].status))
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
    bundle: Path, servers: Sequence[str], rounds: int, lengths: tuple[float, int], console: Console
) -> list[Measured]:
    """Measures a server for each string of flags, all at the rates that follow from the first one's throughput.

    `lengths` are seconds of a load and how many parts they come in.
    """
    requests = [Request.random(CASE, seed) for seed in range(CALLERS)]
    seconds, turns = lengths
    with ExitStack() as served, console.status("throughput, in process and over gRPC") as status:
        addresses = [served.enter_context(serving(bundle, *shlex.split(flags))) for flags in servers]
        in_process, over_grpc = throughput(bundle, addresses, requests, rounds)
        parts = [
            ServerLoads(f"serve {flags}".rstrip(), address)
            for flags, address in zip(servers, addresses, strict=True)
        ]
        sent = messages(CASE, CALLERS)
        for turn in range(turns):
            for load in LOADS:
                config = load.part(over_grpc[0], seconds, turn, turns, CALLERS)
                for part in parts if turn % 2 else reversed(parts):
                    status.update(f"{part.name}: requests at {load.name}, part {turn + 1} of {turns}")
                    part.run(load, sent, config)
    return [part.measured(in_process, reached) for part, reached in zip(parts, over_grpc, strict=True)]


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
    for name, result in measured.loads.items():
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
