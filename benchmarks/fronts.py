"""Rates and latencies of one process, and of an engine with front processes, on this machine.

    python -m benchmarks.fronts --demo build/demo                                # the demo's ranker on the CPU
    python -m benchmarks.fronts --simulated build/gpu/mixlm.bundle               # a device that is never the limit

A process of its own sends requests made beforehand over eight connections and keeps `--window` of them in flight. The
sides are measured in turn, `--rounds` times; figures are medians, ratios are to the one process. `gpu.simulated` says
what stands in for the device.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.machine import describe_machine
from rankport.protos.messages import wire
from rankport.runtime.config import CUDA_DEFAULTS, DEFAULTS
from rankport.runtime.kinds.hosted_engine import HostedEngine, hosted_ranker
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.processes.control import FrontOrders, Logging
from rankport.runtime.server.processes.engine_host import EngineHost
from rankport.runtime.server.processes.ports import ReservedPort
from rankport.runtime.server.processes.slot import Slot
from rankport.runtime.server.processes.supervisor import Supervisor, Work
from rankport.runtime.server.server import Server

_CONNECTIONS, _REQUESTS, _PREFIXES = 8, 64, 32
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Rate:
    """Figures of a run."""

    items_per_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Shape:
    """Requests of a run."""

    form: str  # "texts" or "embeddings"
    items: int


def main() -> None:
    """All shapes at all sides, as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, help="folder of `make demo`")
    parser.add_argument(
        "--simulated", type=Path, help="bundle of a ranker for CUDA, whose graphs are not run"
    )
    parser.add_argument("--fronts", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--items", type=int, nargs="*", default=[50, 250])
    parser.add_argument("--forms", nargs="*", default=["texts", "embeddings"])
    parser.add_argument("--window", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build/bench/fronts.json"))
    given = parser.parse_args()
    device, bundle = (
        ("simulated", given.simulated) if given.simulated else ("cpu", given.demo / "ranker.bundle")
    )
    report: dict[str, Any] = {"device": device, "machine": describe_machine(), "window": given.window}
    for shape in [Shape(form, items) for form in given.forms for items in given.items]:
        rates = measured(device, bundle, shape, given)
        report[f"{shape.items} {shape.form}"] = told(rates)
        print(f"{shape.items} {shape.form}: {json.dumps(told(rates))}", flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=1) + "\n")


def measured(device: str, bundle: Path, shape: Shape, given: argparse.Namespace) -> dict[int, list[Rate]]:
    """Runs each side in turn, round by round."""
    requests = requests_of(bundle, shape)
    rates: dict[int, list[Rate]] = {fronts: [] for fronts in given.fronts}
    with ProcessPoolExecutor(1, _SPAWN) as sender:
        for _ in range(given.rounds):
            for fronts in given.fronts:
                with serving(device, bundle, fronts) as address:
                    sender.submit(send, address, requests, 1.0, given.window).result()
                    latencies, elapsed_s = sender.submit(
                        send, address, requests, given.seconds, given.window
                    ).result()
                p50, p99 = np.percentile(latencies, [50, 99]) * 1e3
                rates[fronts].append(Rate(len(latencies) * shape.items / elapsed_s, float(p50), float(p99)))
    return rates


def told(rates: dict[int, list[Rate]]) -> dict[str, Any]:
    """Medians of each side, and ratios to the first."""
    medians = {
        fronts: {
            name: statistics.median(getattr(rate, name) for rate in runs)
            for name in ("items_per_s", "p50_ms", "p99_ms")
        }
        for fronts, runs in rates.items()
    }
    first = next(iter(medians.values()))
    return {
        f"{fronts} fronts": {
            **{name: round(value, 2) for name, value in own.items()},
            "ratios": {name: round(value / first[name], 3) for name, value in own.items()},
        }
        for fronts, own in medians.items()
    }


def requests_of(bundle: Path, shape: Shape) -> list[bytes]:
    """Messages of random words, or of random embeddings, behind few prefixes."""
    manifest, rng = open_bundle(bundle).manifest, np.random.default_rng(0)
    words = [
        "nurse",
        "data",
        "engineer",
        "chief",
        "operator",
        "machine",
        "hospital",
        "senior",
        "welder",
        "cook",
    ]
    messages = []
    for index in range(_REQUESTS):
        prefix = " ".join(rng.choice(words, 6)) + f" {index % _PREFIXES}"
        if shape.form == "texts":
            items: Any = [" ".join(rng.choice(words, 8)) for _ in range(shape.items)]
        else:
            assert manifest.embedding is not None, "the ranker takes embedding tokens"
            size = (shape.items, manifest.embedding.tokens, manifest.embedding.hidden_size)
            items = list(rng.standard_normal(size, np.float32).astype(np.float16))
        messages.append(wire.score_request("", prefix, items, "error", "skip").SerializeToString())
    return messages


@contextmanager
def serving(device: str, bundle: Path, fronts: int) -> Iterator[str]:
    """Serves a bundle by so many fronts; 0: by one process."""
    if device == "cpu" and fronts:
        with Supervisor(Work([str(bundle)], ServerConfig(port=0, fronts=fronts), DEFAULTS)) as server:
            yield server.address
        return
    if fronts:
        with simulated_fronts(bundle, fronts) as address:
            yield address
        return
    with child(one_process, device, str(bundle)) as address:
        yield address


@contextmanager
def simulated_fronts(bundle: Path, fronts: int) -> Iterator[str]:
    """Fronts of an engine on the simulated device."""
    with tempfile.TemporaryDirectory() as folder, child(engine_process, str(Path(folder, "engine"))) as path:
        port = ReservedPort("127.0.0.1", 0, "port")
        server = ServerConfig(port=port.number, is_front=True)
        engine = replace(CUDA_DEFAULTS, engines_at=(path,))
        slots = [
            Slot(
                FrontOrders(
                    (str(bundle),), None, False, False, server, engine, Logging(False, f"front {index}")
                )
            )
            for index in range(fronts)
        ]
        try:
            for slot in slots:
                slot.wait_until_started()
            yield f"127.0.0.1:{port.number}"
        finally:
            for slot in slots:
                slot.kill()
            port.close()


@contextmanager
def child(work: Any, *arguments: str) -> Iterator[str]:
    """Runs a function in a process of its own until the end of the block; gives what it says first."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=work, args=(theirs, *arguments))
    process.start()
    try:
        yield str(ours.recv())
    finally:
        process.kill()
        process.join()


def one_process(control: "Connection[Any, Any]", device: str, path: str) -> None:
    """Serves in this process."""
    from benchmarks.gpu.simulated import simulated_ranker
    from rankport.runtime.kinds.ranker.ranker import Ranker

    loaded = simulated_ranker(open_bundle(path)) if device == "simulated" else Ranker.load(path)
    with loaded as ranker, Server({"ranker": ranker}, ServerConfig(port=0)) as server:
        control.send(server.address)
        control.recv()


def engine_process(control: "Connection[Any, Any]", path: str) -> None:
    """Hosts an engine on the simulated device."""
    from benchmarks.gpu.simulated import SimulatedMemory, simulated_engine

    def load(order: Any, config: Any) -> HostedEngine:
        return hosted_ranker(simulated_engine(open_bundle(order.path), SimulatedMemory()))

    sys.setswitchinterval(ServerConfig().switch_interval_s or 0.005)
    host = EngineHost(path, CUDA_DEFAULTS, lambda: None, load)
    control.send(path)
    control.recv()
    host.close()


def send(address: str, requests: list[bytes], seconds: float, window: int) -> tuple[list[float], float]:
    """Keeps the window full for so long; the latencies of all calls, and the seconds they took together."""
    channels = [grpc.insecure_channel(address, _OPTIONS) for _ in range(_CONNECTIONS)]
    calls: list[Any] = [channel.unary_unary("/rankport.v1.Scoring/Score", None, None) for channel in channels]
    room, latencies = threading.Semaphore(window), list[float]()
    failures: list[object] = []
    begun_s, sent = time.perf_counter(), 0
    while time.perf_counter() < begun_s + seconds:
        room.acquire()
        sent_s = time.perf_counter()

        def done(call: Any, sent_s: float = sent_s) -> None:
            latencies.append(time.perf_counter() - sent_s)
            if call.code() is not grpc.StatusCode.OK:
                failures.append((call.code(), call.details()))
            room.release()

        calls[sent % _CONNECTIONS].future(requests[sent % len(requests)]).add_done_callback(done)
        sent += 1
    for _ in range(window):
        room.acquire()
    elapsed_s = time.perf_counter() - begun_s
    assert not failures, failures[0]
    for channel in channels:
        channel.close()
    return latencies, elapsed_s


if __name__ == "__main__":
    main()
