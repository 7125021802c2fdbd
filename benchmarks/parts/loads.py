"""Loads of a server in parts, and what became of their requests: benchmarks that compare servers take them in turn."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.parts.model import Case, Request
from rankport.protos.messages import wire
from rankport.protos.priorities import Priority
from rankport.protos.v1.rankport_pb2 import ScoreResponse
from rankport.sdk.loadtest.config import Arrivals, LoadConfig
from rankport.sdk.loadtest.grpc_target import GrpcTarget
from rankport.sdk.loadtest.requests import SCORE, LoadRequest
from rankport.sdk.loadtest.result import OK, Ended, LoadResult
from rankport.sdk.loadtest.run import run_rate

TIMEOUT_S = 30.0

Phases = dict[str, dict[str, float]]
"""Milliseconds by phase, of the middle and of the slowest requests."""


QUIET, CONSTANT, FLOOD = "70 %", "70 %, constant", "10 x"


@dataclass(frozen=True, slots=True)
class Load:
    """Requests that arrive at a rate."""

    name: str
    of_capacity: float
    arrivals: Arrivals = "poisson"
    warm_up_s: float = 2.0
    length: float = 4.0  # as a multiple of the flood's

    def part(self, capacity: float, flood_s: float, turn: int, of: int, clients: int) -> LoadConfig:
        """Configures one of its parts, each with draws of its own."""
        return LoadConfig(
            rate=self.of_capacity * capacity,
            duration_s=self.length * flood_s / of,
            warm_up_s=self.warm_up_s,
            arrivals=self.arrivals,
            clients=clients,
            timeout_s=TIMEOUT_S,
            seed=turn,
        )


LOADS = (
    Load(QUIET, 0.7),
    Load(CONSTANT, 0.7, "constant"),
    Load(FLOOD, 10.0, warm_up_s=0.0, length=1.0),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """A server under each load."""

    name: str
    in_process: float  # requests a second
    over_grpc: float
    loads: Mapping[str, LoadResult]
    phases: Phases  # when quiet
    flood_goodput: float  # answers a second that came while requests did

    @property
    def figures(self) -> dict[str, float]:
        """Figures by the names of their goals."""
        return {
            "gRPC / in process": self.over_grpc / self.in_process,
            **{f"p99 / p50 at {name}": tail(self.loads[name]) for name in (QUIET, CONSTANT)},
            f"goodput at {FLOOD} / peak": self.flood_goodput / self.over_grpc,
        }

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return {
            "server": self.name,
            "requests_per_s": {"in process": self.in_process, "gRPC": self.over_grpc},
            "figures": self.figures,
            f"phases_ms at {QUIET}": self.phases,
            f"answers_per_s at {FLOOD}": self.flood_goodput,
            "loads": {name: result.as_json() for name, result in self.loads.items()},
        }


class ServerLoads:
    """Loads of one server, each in parts."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self._address = name, address
        self._parts: dict[str, list[LoadResult]] = {load.name: [] for load in LOADS}
        self._spent: list[dict[str, float]] = []

    def run(self, load: Load, requests: Sequence[LoadRequest], config: LoadConfig) -> None:
        """Runs a part of a load."""
        result, spent = asyncio.run(_run(self._address, requests, config))
        self._parts[load.name].append(result)
        self._spent += spent if load.name == QUIET else []

    def measured(self, in_process: float, over_grpc: float) -> Measured:
        """Gives all parts together."""
        loads = {name: joined(parts) for name, parts in self._parts.items()}
        goodput = loads[FLOOD].goodput
        return Measured(self.name, in_process, over_grpc, loads, phases(self._spent), goodput)


def joined(parts: Sequence[LoadResult]) -> LoadResult:
    """Joins parts of one load behind each other."""
    begins = np.cumsum([0.0, *(part.duration_s for part in parts)])[:-1]
    return LoadResult(
        rate=parts[0].rate,
        duration_s=sum(part.duration_s for part in parts),
        due_s=np.concatenate([part.due_s + begin for part, begin in zip(parts, begins, strict=True)]),
        late_s=np.concatenate([part.late_s for part in parts]),
        latency_s=np.concatenate([part.latency_s for part in parts]),
        status=[status for part in parts for status in part.status],
        came=sum((Counter(part.came) for part in parts), Counter[Priority]()),
        items=sum(part.items for part in parts),
        unscored=sum(part.unscored for part in parts),
        reasons={name: reason for part in parts for name, reason in part.reasons.items()},
    )


class PhasesTarget(GrpcTarget):
    """Server whose replies say what each request waited for."""

    def __init__(self, address: str) -> None:
        super().__init__(address, connections=4, timeout_s=TIMEOUT_S)
        self.spent: list[dict[str, float]] = []  # by each answered request, milliseconds by phase

    async def send(self, request: LoadRequest, priority: Priority = "interactive") -> Ended:
        """Sends a request and notes what it spent its time on."""
        begun_s = time.perf_counter()
        ended = await super().send(request, priority)
        whole_s = time.perf_counter() - begun_s
        if ended.status == OK:
            usage = ScoreResponse.FromString(ended.reply).usage
            told = {"tokenize": usage.tokenize_s, "queue": usage.queue_s, "compute": usage.compute_s}
            spent = told | {"rest": whole_s - sum(told.values())}
            self.spent.append({phase: 1000 * seconds for phase, seconds in spent.items()})
        return ended


def phases(spent: Sequence[dict[str, float]]) -> Phases:
    """Averages over the middle tenth of the requests, and over the slowest hundredth."""
    ordered = sorted(spent, key=lambda each: sum(each.values()))
    places = {"middle": (0.45, 0.55), "slowest": (0.99, 1.0)}
    parts = {
        name: ordered[int(start * len(ordered)) : max(round(end * len(ordered)), 1)]
        for name, (start, end) in places.items()
    }
    return {
        name: {phase: statistics.fmean(each[phase] for each in part) for phase in part[0]}
        for name, part in parts.items()
        if part
    }


async def _run(
    address: str, requests: Sequence[LoadRequest], config: LoadConfig
) -> tuple[LoadResult, list[dict[str, float]]]:
    target = PhasesTarget(address)
    try:
        return await run_rate(target, requests, config.rate, config, lambda _: None), target.spent
    finally:
        await target.close()


def messages(case: Case, count: int) -> list[LoadRequest]:
    """Makes requests of a case, each with items of its own."""
    requests = [Request.random(case, seed) for seed in range(count)]
    made = [wire.score_request("", request.prefix, request.items, "error", "skip") for request in requests]
    return [LoadRequest(SCORE, message.SerializeToString(), case.items) for message in made]


def tail(result: LoadResult) -> float:
    """Gives p99 / p50 of the answered requests."""
    return result.percentile_s(99) / result.percentile_s(50)
