"""A million items through encode, LMDB, snapshot and lookups, served too: rates, and memory above the model's.

    python -m benchmarks.catalogue [--items 1000000] [--out build/bench] [--plot docs/catalogue.svg]

Texts are short, 3 to 8 drawn words, the encoder small (a layer of width 64), so that what is measured is the pipeline
and not a model. Each step is a process of its own, and its memory what it holds beyond what it held before it began,
with the model loaded: anonymous, and resident, which counts pages of stores that the system may drop at any time.
Of the served lookups it is the server's: a ranker on the snapshot, asked by the clients of this step over gRPC.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from rankport.protos.errors import NotFound
from rankport.protos.types import ItemStatus
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.table import load_encoder
from rankport.runtime.store.opening import open_store
from rankport.sdk import Client, encode
from rankport.sdk.store_copies import copy_store

WORDS, MIN_WORDS, MAX_WORDS = 8000, 3, 8
BATCH = 512
KEYS, READS = 250, 2000  # a lookup, and how many
CALLERS = 4  # at once, of one server
MEMORY_GOAL_MB = 2048.0
SAMPLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Sample:
    """State of a step at a moment."""

    seconds: float
    rows: int
    anonymous_mb: float  # above the step's start
    resident_mb: float


def main() -> None:
    """Runs the steps one by one, and writes catalogue.json and the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work: Path = arguments.out / "catalogue"
    if arguments.step:
        print(json.dumps(STEPS[arguments.step](work, arguments.items)))
        return
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    make_models(work)
    write_items(work / "items.csv", arguments.items)
    report: dict[str, object] = {"items": arguments.items, "memory_goal_mb": MEMORY_GOAL_MB}
    for step in STEPS:
        report[step] = run_step(step, arguments)
        print(f"{step}: {summary(report[step])}", file=sys.stderr, flush=True)
    report["machine"] = describe_machine()
    (arguments.out / "catalogue.json").write_text(json.dumps(report, indent=1) + "\n")
    shutil.rmtree(work)
    if arguments.plot:
        from benchmarks.catalogue_plot import draw

        draw(report, arguments.plot)


def run_step(step: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Runs a step in a fresh process: what an earlier one left in memory is not this one's."""
    command = [sys.executable, "-m", "benchmarks.catalogue", "--step", step, "--items", str(arguments.items)]
    done = subprocess.run(
        [*command, "--out", str(arguments.out)], stdout=subprocess.PIPE, text=True, check=True
    )
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def make_models(work: Path) -> None:
    """Exports an encoder, and a ranker of its tokens."""
    from benchmarks.catalogue_models import make_encoder, make_ranker  # with torch, which no step loads

    make_encoder(work, WORDS)
    make_ranker(work, WORDS)


def summary(step: object) -> str:
    """Says a step's figures, without its samples."""
    assert isinstance(step, dict)
    return ", ".join(f"{name} {value}" for name, value in step.items() if name != "samples")


def encode_all(work: Path, items: int) -> dict[str, object]:
    """Encodes the file into LMDB; the second time all is stored."""
    rows = 0

    def progress(now: object) -> None:
        nonlocal rows
        rows = now.rows  # type: ignore[attr-defined]

    with load_encoder(work / "encoder.bundle") as encoder:
        assert isinstance(encoder, ItemEncoder)
        encoder.encode(["w1 w2 w3"] * BATCH)
        with sampled(lambda: rows) as samples:
            begun_s, cpu_s = time.perf_counter(), time.process_time()
            report = encode(
                encoder, work / "items.csv", work / "lmdb", batch_size=BATCH, on_progress=progress
            )
            seconds, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    assert report.rows_read == items
    assert report.bad_rows == 0
    return {
        "encoded": report.encoded,
        "unchanged": report.unchanged,
        "items_a_second": items / seconds,
        "items_a_second_of_cpu": items / cpu_s,
        **facts(samples),
    }


def copy(work: Path, items: int) -> dict[str, object]:
    """Copies LMDB to a snapshot, and compares every item."""
    with sampled(lambda: 0) as samples:
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        copy_store(str(work / "lmdb"), str(work / "snapshot"), kind="snapshot")
        seconds, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    return {"items_a_second": items / seconds, "items_a_second_of_cpu": items / cpu_s, **facts(samples)}


def look_up(work: Path, items: int) -> dict[str, object]:
    """Reads random keys of the snapshot, every one of them there."""
    rng = np.random.default_rng(0)
    with open_store(work / "snapshot", read_only=True) as store:
        namespace = store.namespace(next(iter(store.fingerprints())))
        assert len(namespace) == items
        walls, owns = list[float](), list[float]()
        with sampled(lambda: len(walls) * KEYS) as samples:
            for _ in range(READS):
                keys = [key_of(number) for number in rng.integers(0, items, KEYS).tolist()]
                begun_s, own_s = time.perf_counter(), time.thread_time()
                stored = namespace.read(keys)
                walls.append(time.perf_counter() - begun_s)
                owns.append(time.thread_time() - own_s)
                if len(stored.places) < KEYS:
                    raise NotFound("a key that was encoded is not in the snapshot")
    return {
        "keys_a_read": KEYS,
        "p50_ms": 1000 * float(np.median(walls)),
        "p99_ms": 1000 * float(np.quantile(walls, 0.99)),
        "own_p50_ms": 1000 * float(np.median(owns)),
        **facts(samples),
    }


def look_up_served(work: Path, items: int) -> dict[str, object]:
    """Asks a server on the snapshot for random keys, one call after the other, then of several clients at once."""
    rng = np.random.default_rng(1)
    with served(work) as (address, pid), Client(address, timeout_s=60.0) as client:
        client.lookup([key_of(0)])
        alone_s: list[float] = []
        with sampled(lambda: len(alone_s) * KEYS, pid) as samples:
            alone_s += timed_lookups(client, rng, items, READS)
            begun_s = time.perf_counter()
            generators = rng.spawn(CALLERS)
            with ThreadPoolExecutor(CALLERS) as pool:
                calls = [
                    pool.submit(timed_lookups, client, each, items, READS // CALLERS) for each in generators
                ]
                busy_s = [wall for call in calls for wall in call.result()]
            seconds = time.perf_counter() - begun_s
    return {
        "keys_a_call": KEYS,
        **milliseconds("", alone_s),
        "keys_a_second": KEYS * len(alone_s) / sum(alone_s),
        "callers": CALLERS,
        **milliseconds("callers_", busy_s),
        "callers_keys_a_second": KEYS * len(busy_s) / seconds,
        **facts(samples),
    }


def timed_lookups(client: Client, rng: np.random.Generator, items: int, calls: int) -> list[float]:
    """Looks random keys up, every one of them there; returns each call's seconds."""
    walls = []
    for _ in range(calls):
        keys = [key_of(number) for number in rng.integers(0, items, KEYS).tolist()]
        begun_s = time.perf_counter()
        found = client.lookup(keys)
        walls.append(time.perf_counter() - begun_s)
        if set(found.status) != {ItemStatus.OK} or not np.isfinite(found.embeddings).all():
            raise NotFound("a key that was encoded is not at the server")
    return walls


def milliseconds(prefix: str, seconds: Sequence[float]) -> dict[str, float]:
    """Gives the median and the 99th percentile."""
    return {f"{prefix}p{share}_ms": 1000 * float(np.percentile(seconds, share)) for share in (50, 99)}


@contextmanager
def served(work: Path) -> Iterator[tuple[str, int]]:
    """Serves the ranker on the snapshot by the command until the end of the block; its address and process."""
    bundles = ["serve", str(work / "ranker.bundle"), "--store", str(work / "snapshot")]
    command = [sys.executable, "-m", "rankport.sdk.cli", *bundles, "--port", "0", "--json-log"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = map(json.loads, process.stdout)
            yield next(line["address"] for line in lines if line["event"] == "ready"), process.pid
        finally:
            process.terminate()


def facts(samples: Sequence[Sample]) -> dict[str, object]:
    """Sums up a step's memory."""
    return {
        "most_anonymous_mb": max(sample.anonymous_mb for sample in samples),
        "most_resident_mb": max(sample.resident_mb for sample in samples),
        "samples": [asdict(sample) for sample in samples],
    }


@contextmanager
def sampled(rows: Callable[[], int], pid: int | str = "self") -> Iterator[list[Sample]]:
    """Takes a sample of a process every two seconds while the block runs, and one at its end."""
    begun_s, before = time.perf_counter(), memory_mb(pid)
    samples: list[Sample] = []
    ended = threading.Event()

    def take() -> None:
        anonymous, resident = (now - then for now, then in zip(memory_mb(pid), before, strict=True))
        samples.append(Sample(time.perf_counter() - begun_s, rows(), anonymous, resident))

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            take()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
        take()


def memory_mb(pid: int | str) -> tuple[float, float]:
    """Reads a process's anonymous and resident memory."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    anonymous, resident = (int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "VmRSS"))
    return anonymous, resident


def key_of(number: int) -> str:
    """Names an item."""
    return f"item-{number}"


def write_items(path: Path, items: int) -> None:
    """Writes the catalogue: one in ten words is any of all, the others are of the most frequent 200."""
    rng = random.Random(0)
    with path.open("w") as stream:
        stream.write("id,text\n")
        for number in range(items):
            words = [
                rng.randrange(WORDS if rng.random() < 0.1 else 200)
                for _ in range(rng.randint(MIN_WORDS, MAX_WORDS))
            ]
            stream.write(f"{key_of(number)},{' '.join(f'w{word}' for word in words)}\n")


STEPS = {
    "encode": encode_all,
    "again": encode_all,
    "copy": copy,
    "look_up": look_up,
    "look_up_served": look_up_served,
}


if __name__ == "__main__":
    main()
