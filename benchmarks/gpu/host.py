"""Rates that the host can feed: the whole path of a request, in process and over gRPC; the device is never the limit.

    python -m benchmarks.gpu.host --bundle build/gpu/mixlm.fp16.bundle
    python -m benchmarks.gpu.host --bundle build/gpu/mixlm.fp16.bundle --against ../other-tree --rounds 3

Requests have 250 or 50 items, as embeddings, as keys that are read from a store, or as keys whose tokens stay on the
device; callers keep 96 of them in flight. Over gRPC a process of its own sends them as bytes made beforehand, so that
it takes little of the machine. `--items`, `--form` and `--way` pick some of these. Beside each rate stand this
process's processor time a request, which other processes of the machine change little, and the requests that shared a
pass of items. See `simulated` for what stands in for the device. `--against` runs the same script of another tree in
turn, round by round, and prints the ratios.
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
from rankport.runtime.store.contract import TokenNamespace

_MODEL = FULL.workloads[0].model
_SHAPE = FULL.workloads[0].requests[0]
_WINDOW, _CALLERS, _PREFIXES, _ITEM_SETS = 96, 4, 64, 8
_SWITCH_S = 2e-4  # as `rankport serve` sets it
_SECONDS = 2.0
_ITEMS, _FORMS = (250, 50), ("embeddings", "store", "device")
_WAYS = {"in-process": "in process", "grpc": "gRPC"}

Measured = dict[str, dict[str, float]]
"""Figures by what they are of, each by the way that requests are sent."""


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
    parser.add_argument("--items", type=int, nargs="+", default=_ITEMS, help="of a request; default: 250 50")
    parser.add_argument(
        "--form", nargs="+", choices=_FORMS, default=_FORMS, help="of the items; default: all"
    )
    parser.add_argument(
        "--way", nargs="+", choices=_WAYS, default=[*_WAYS], help="of the calls; default: both"
    )
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    if given.against is None:
        given.out.write_text(json.dumps(measured(given), indent=1) + "\n")
        return
    figures = Figures(given.out)
    figures.add("machine", describe_machine())
    compare(figures, given)


def compare(figures: Figures, given: argparse.Namespace) -> None:
    """Both trees in turn; medians over the rounds, and the ratio of this tree to the other."""
    trees = {"this": Path.cwd(), "other": given.against.resolve()}
    bundles = {"this": given.bundle.resolve(), "other": (given.other_bundle or given.bundle).resolve()}
    picked = ["--items", *map(str, given.items), "--form", *given.form, "--way", *given.way]
    rounds: dict[str, list[Measured]] = {name: [] for name in trees}
    for number in range(given.rounds):
        for name, tree in trees.items():
            out = given.out.resolve().with_suffix(f".{name}.json")
            arguments = ["--bundle", str(bundles[name]), "--out", str(out), *picked]
            command = [str(tree / ".venv/bin/python"), "-m", "benchmarks.gpu.host", *arguments]
            subprocess.run(command, cwd=tree, check=True)
            rounds[name].append(json.loads(out.read_text()))
            print(f"round {number + 1} of {given.rounds}, {name}: {rounds[name][-1]}", flush=True)
    medians = {
        name: {
            figure: {way: statistics.median(one[figure][way] for one in runs) for way in runs[0][figure]}
            for figure in runs[0]
        }
        for name, runs in rounds.items()
    }
    for figure, values in medians["this"].items():
        for name in trees:
            figures.add(f"{figure}, {name} tree", medians[name][figure])
        ratios = {way: value / medians["other"][figure][way] for way, value in values.items()}
        figures.add(f"{figure}, this / other", ratios)


def measured(given: argparse.Namespace) -> Measured:
    """Figures of what is picked, by items, form and way."""
    sys.setswitchinterval(_SWITCH_S)
    bundle = open_bundle(given.bundle)
    found: Measured = {}
    with stored_catalogue(bundle.manifest) as stored:
        for items in given.items:
            shape = replace(_SHAPE, items=items)
            keys = stored.drawn(_ITEM_SETS, items)
            embeddings = [random_query(_MODEL, shape, seed).items for seed in range(_ITEM_SETS)]
            forms: dict[str, tuple[list[Any], TokenNamespace | None, str]] = {
                "embeddings": (embeddings, None, "embeddings"),
                "store": (keys, stored.tokens, "keys from the store"),
                "device": (keys, stored.tokens, "keys on the device"),
            }
            for form in given.form:
                sets, tokens, name = forms[form]
                with simulated_ranker(bundle, tokens, resident=form == "device") as ranker:
                    for way in given.way:
                        named = f"{items} {name}, {_WAYS[way]}"
                        for figure, value in measured_way(way, ranker, shape, sets).items():
                            found.setdefault(figure, {})[named] = value
                            print(f"{named}: {value:,.1f} {figure}", flush=True)
    return found


def prefixes_of(shape: RequestShape) -> list[list[int]]:
    """Fresh ones of a run: each comes again only after `_PREFIXES` requests."""
    rng = np.random.default_rng()
    return [random_prefix(_MODEL, shape, rng).tolist() for _ in range(_PREFIXES)]


def measured_way(way: str, ranker: Ranker, shape: RequestShape, sets: list[Any]) -> dict[str, float]:
    """Figures of one way, by what they are of."""
    run = in_process if way == "in-process" else over_grpc
    run(ranker, shape, sets, _SECONDS / 4)
    passes, processor_s = item_passes(ranker), time.process_time()
    answered, elapsed_s = run(ranker, shape, sets, _SECONDS)
    return {
        "items/s": round(answered * shape.items / elapsed_s),
        "us of the processor a request": (time.process_time() - processor_s) / answered * 1e6,
        "requests a pass": answered / (item_passes(ranker) - passes),
    }


def item_passes(ranker: Ranker) -> int:
    """Counts the passes over items so far."""
    return sum(engine.stages["score"].passes for engine in ranker.counts().engines.values())


def in_process(ranker: Ranker, shape: RequestShape, sets: list[Any], seconds: float) -> tuple[int, float]:
    """Has callers keep the window full; requests answered, and the seconds they took."""
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
    return sum(counted), time.perf_counter() - begun


def over_grpc(ranker: Ranker, shape: RequestShape, sets: list[Any], seconds: float) -> tuple[int, float]:
    """Sends requests over a port of this machine; how many were answered, and the seconds they took."""
    prefixes = prefixes_of(shape)
    requests = [
        wire.score_request("", prefix, list(sets[index % len(sets)]), "error", "skip").SerializeToString()
        for index, prefix in enumerate(prefixes)
    ]
    with Server({"ranker": ranker}, ServerConfig(port=0, grace_s=1.0)) as server:
        return _sender().submit(send, server.address, requests, seconds).result()


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
