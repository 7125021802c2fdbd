"""Rates that the host can feed: the whole path of a request, in process and over gRPC; the device is never the limit.

    python -m benchmarks.gpu.host --bundle build/gpu/mixlm.fp16.bundle
    python -m benchmarks.gpu.host --bundle build/gpu/mixlm.fp16.bundle --against ../other-tree --rounds 3

Requests have 250 or 50 items, as embeddings, as keys that are read from a store, or as keys whose tokens stay on the
device; callers keep 96 of them in flight. Over gRPC a process of its own sends them as bytes made beforehand, so that
it takes little of the machine. See `simulated` for what stands in for the device. `--against` runs the same script of
another tree in turn, round by round, and prints the ratios.
"""

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.gpu.reports.figures import Figures
from benchmarks.gpu.reports.machine import describe_machine
from benchmarks.gpu.simulated import simulated_ranker
from benchmarks.gpu.workload.queries import random_prefix, random_query
from benchmarks.gpu.workload.shapes import FULL, RequestShape
from benchmarks.gpu.workload.stored import stored_catalogue
from rankport.protos.messages import wire
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server

_MODEL = FULL.workloads[0].model
_SHAPE = FULL.workloads[0].requests[0]
_WINDOW, _CALLERS, _PREFIXES, _ITEM_SETS = 96, 4, 64, 8
_SWITCH_S = 2e-4  # as `rankport serve` sets it
_SECONDS = 2.0


def main() -> None:
    """One round of this tree, or several of two trees in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("build/gpu/mixlm.fp16.bundle"))
    parser.add_argument("--out", type=Path, default=Path("build/bench/host.json"))
    parser.add_argument("--against", type=Path, help="another checkout, whose .venv runs its own script")
    parser.add_argument("--other-bundle", type=Path, help="that tree's own export; default: --bundle")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    if given.against is None:
        given.out.write_text(json.dumps(measured(given.bundle), indent=1) + "\n")
        return
    figures = Figures(given.out)
    figures.add("machine", describe_machine())
    compare(figures, given)


def compare(figures: Figures, given: argparse.Namespace) -> None:
    """Both trees in turn; medians over the rounds, and the ratio of this tree to the other."""
    trees = {"this": Path.cwd(), "other": given.against.resolve()}
    bundles = {"this": given.bundle.resolve(), "other": (given.other_bundle or given.bundle).resolve()}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for number in range(given.rounds):
        for name, tree in trees.items():
            out = given.out.resolve().with_suffix(f".{name}.json")
            arguments = ["--bundle", str(bundles[name]), "--out", str(out)]
            command = [str(tree / ".venv/bin/python"), "-m", "benchmarks.gpu.host", *arguments]
            subprocess.run(command, cwd=tree, check=True)
            rounds[name].append(json.loads(out.read_text()))
            print(f"round {number + 1} of {given.rounds}, {name}: {rounds[name][-1]}", flush=True)
    medians = {
        name: {way: statistics.median(one[way] for one in runs) for way in runs[0]}
        for name, runs in rounds.items()
    }
    for name, rates in medians.items():
        figures.add(f"items/s, {name} tree", rates)
    ratios = {way: medians["this"][way] / medians["other"][way] for way in medians["this"]}
    figures.add("this / other", ratios)


def measured(path: Path) -> dict[str, float]:
    """Items a second, by the way that they are sent."""
    sys.setswitchinterval(_SWITCH_S)
    bundle = open_bundle(path)
    rates: dict[str, float] = {}
    with stored_catalogue(bundle.manifest) as stored:
        for items in (250, 50):
            shape = replace(_SHAPE, items=items)
            keys = stored.drawn(_ITEM_SETS, items)
            embeddings = [random_query(_MODEL, shape, seed).items for seed in range(_ITEM_SETS)]
            for name, sets, tokens, resident in (
                ("embeddings", embeddings, None, False),
                ("keys from the store", keys, stored.tokens, False),
                ("keys on the device", keys, stored.tokens, True),
            ):
                with simulated_ranker(bundle, tokens, resident=resident) as ranker:
                    for way, run in (("in process", in_process), ("gRPC", over_grpc)):
                        run(ranker, shape, sets, _SECONDS / 4)
                        rate = run(ranker, shape, sets, _SECONDS)
                        rates[f"{items} {name}, {way}"] = round(rate)
                        print(f"{items} {name}, {way}: {rate:,.0f} items/s", flush=True)
    return rates


def prefixes_of(shape: RequestShape) -> list[list[int]]:
    """Fresh ones of a run: each comes again only after `_PREFIXES` requests."""
    rng = np.random.default_rng()
    return [random_prefix(_MODEL, shape, rng).tolist() for _ in range(_PREFIXES)]


def in_process(ranker: Ranker, shape: RequestShape, sets: list[Any], seconds: float) -> float:
    """Items a second of callers that keep the window full."""
    prefixes, room = prefixes_of(shape), threading.Semaphore(_WINDOW)
    counted: list[int] = []

    def call(first: int) -> None:
        futures: list[Future[Any]] = []
        index = first
        while time.perf_counter() < end:
            room.acquire()
            future = ranker.submit(prefixes[index % _PREFIXES], sets[index % len(sets)])
            future.add_done_callback(lambda _: room.release())
            futures.append(future)
            index += _CALLERS
        for future in futures:
            future.result()
        counted.append(len(futures))

    begun = time.perf_counter()
    end = begun + seconds
    with ThreadPoolExecutor(_CALLERS) as pool:
        list(pool.map(call, range(_CALLERS)))
    return sum(counted) * shape.items / (time.perf_counter() - begun)


def over_grpc(ranker: Ranker, shape: RequestShape, sets: list[Any], seconds: float) -> float:
    """Measures items a second over a port of this machine."""
    prefixes = prefixes_of(shape)
    requests = [
        wire.score_request("", prefix, list(sets[index % len(sets)]), "error", "skip").SerializeToString()
        for index, prefix in enumerate(prefixes)
    ]
    with Server({"ranker": ranker}, ServerConfig(port=0, grace_s=1.0)) as server:
        answered, elapsed_s = _sender().submit(send, server.address, requests, seconds).result()
    return answered * shape.items / elapsed_s


def send(address: str, requests: list[bytes], seconds: float) -> tuple[int, float]:
    """Keeps the window full for so long, in another process; calls answered, and the seconds they took."""
    channels = [
        grpc.insecure_channel(
            address, [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        )
        for _ in range(_CALLERS)
    ]
    calls: list[Any] = [channel.unary_unary("/rankport.v1.Scoring/Score", None, None) for channel in channels]
    room, answered = threading.Semaphore(_WINDOW), 0
    failures: list[object] = []

    def done(call: Any) -> None:
        if call.code() is not grpc.StatusCode.OK:
            failures.append((call.code(), call.details()))
        room.release()

    begun = time.perf_counter()
    while time.perf_counter() < begun + seconds:
        room.acquire()
        calls[answered % _CALLERS].future(requests[answered % len(requests)]).add_done_callback(done)
        answered += 1
    for _ in range(_WINDOW):
        room.acquire()
    elapsed_s = time.perf_counter() - begun
    assert not failures, failures[0]
    for channel in channels:
        channel.close()
    return answered, elapsed_s


_SENDERS: list[ProcessPoolExecutor] = []


def _sender() -> ProcessPoolExecutor:
    """One process for all runs."""
    if not _SENDERS:
        _SENDERS.append(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
    return _SENDERS[0]


if __name__ == "__main__":
    main()
