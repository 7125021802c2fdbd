"""Throughput over gRPC against throughput in process: the same requests, 4 callers each, interleaved."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.parts.model import Case, Request
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.sdk import Client

CALLERS = 4


@dataclass(frozen=True, slots=True)
class ServedRun:
    """Items per second of one case."""

    case: Case
    in_process: float
    over_grpc: float

    @property
    def share(self) -> float:
        """What the wire leaves of the throughput."""
        return self.over_grpc / self.in_process

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return {
            "case": self.case.name,
            "callers": CALLERS,
            "in_process_items_per_s": self.in_process,
            "grpc_items_per_s": self.over_grpc,
            "grpc_share": self.share,
        }


def compare_throughput(bundle: Path, cases: Sequence[Case], rounds: int) -> list[ServedRun]:
    """The server runs in a process of its own; so does nothing else while it is measured."""
    results = []
    quiet = ("--slow-request-s", "0")
    with Ranker.load(bundle) as ranker, serving(bundle, *quiet) as address, Client(address) as client:
        for case in cases:
            requests = [Request.random(case, seed) for seed in range(CALLERS)]
            repeats = max(1, round(2000 / (case.items * case.item)))
            sides: list[tuple[list[float], Callable[..., object]]] = [([], ranker.score), ([], client.score)]
            for _, score in sides:
                drive(score, requests, 1)
            for _ in range(rounds):
                for rates, score in sides:
                    rates.append(drive(score, requests, repeats) * case.items)
            results.append(ServedRun(case, *(statistics.median(rates) for rates, _ in sides)))
    return results


def drive(score: Callable[..., object], requests: Sequence[Request], repeats: int) -> float:
    """Requests per second of one caller per request, each repeating its own."""

    def caller(request: Request) -> None:
        for _ in range(repeats):
            score(request.prefix, request.items)

    with ThreadPoolExecutor(len(requests)) as pool:
        start = time.perf_counter()
        list(pool.map(caller, requests))
        return len(requests) * repeats / (time.perf_counter() - start)


@contextmanager
def serving(bundle: Path, *flags: str) -> Iterator[str]:
    """Serves a bundle in a process of its own, with further flags of `serve`. Yields its address."""
    command = [sys.executable, "-m", "rankport.sdk.cli", "serve", str(bundle), "--port", "0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"NO_COLOR": "1"})
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "ready on" in line:
                yield line.split("ready on", 1)[1].split()[0]
                return
        raise RuntimeError("the server ended before it was ready")
    finally:
        process.terminate()
        process.wait()
