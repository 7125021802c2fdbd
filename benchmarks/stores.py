"""Random reads of tokens by key from a snapshot, beside LMDB; how long a snapshot takes to open; copies.

    python -m benchmarks.stores [--items 1000000] [--opened 10000000] [--demo build/demo] [--out build/bench]

Tokens of 2 KB an item, random and alike in both stores, which are read in turns by the same keys, through
`TokenNamespace.read`, on warm memory: every key was read once before. Rates are by this thread's own time too, which
other work on the machine does not stretch as it does the wall clock. The opening is measured with rows of 8 bytes. A
million items take 7 GB of disk, freed at the end. With the bundles of `make demo`: how its ranker ranks by int8 tokens.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.machine import describe_machine
from examples.esco.baselines import mean_ndcg
from examples.esco.dataset import Dataset, JudgedQuery
from rankport.protos.types import Key
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.store.contract import TokenEntry, TokenNamespace
from rankport.runtime.store.copy_ends import NamespaceSource, snapshot_target
from rankport.runtime.store.copying import copy_tokens
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.snapshot.store import SnapshotStore
from rankport.runtime.store.snapshot.writer import Facts, SnapshotWriter
from rankport.runtime.store.token_spec import TokenSpec
from rankport.sdk.store_copies import copy_store

ENCODER = "f" * 64
WIDE, NARROW = TokenSpec(1, 1024, "float16"), TokenSpec(1, 4, "int8")
BATCH = 8192
REQUESTS = {250: 400, 4096: 40}  # keys a read: reads of a round
ROUNDS = 5


def main() -> None:
    """Measures and writes stores.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--opened", type=int, default=10_000_000)
    parser.add_argument("--demo", type=Path, default=Path("build/demo"))
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    work = arguments.out / "stores"
    try:
        report = {
            "machine": describe_machine(),
            "reads": measure_reads(work, arguments.items),
            "opening": measure_opening(work, arguments.opened),
            "int8": measure_int8(work, arguments.demo) if arguments.demo.is_dir() else None,
        }
    finally:
        shutil.rmtree(work, ignore_errors=True)
    (arguments.out / "stores.json").write_text(json.dumps(report, indent=2) + "\n")
    json.dump(report, sys.stdout, indent=2)


def measure_reads(work: Path, items: int) -> dict[str, object]:
    """Fills LMDB, copies it to a snapshot, and reads both."""
    report: dict[str, object] = {"items": items, "bytes_an_item": WIDE.nbytes}
    with open_store(work / "lmdb", create=True) as store:
        lmdb = store.namespace(ENCODER, WIDE, create=True)
        begun_s = time.perf_counter()
        for keys in batches(items):
            lmdb.put_many(
                [
                    TokenEntry(key, rows, bytes(16))
                    for key, rows in zip(keys, random_rows(len(keys)), strict=True)
                ]
            )
        report["lmdb_filled_items_a_second"] = items / (time.perf_counter() - begun_s)
        source = NamespaceSource(lmdb, "bench")
        copied = copy_tokens(source, snapshot_target(work / "snapshot", source, WIDE))
        report["copied_and_compared_items_a_second"] = items / copied.seconds
        with open_store(work / "snapshot", read_only=True) as snapshots:
            stores = {"snapshot": snapshots.namespace(ENCODER), "lmdb": lmdb}
            for namespace in stores.values():
                for keys in batches(items):
                    namespace.read(keys)
            for size, count in REQUESTS.items():
                report[f"reads_of_{size}_keys"] = in_turns(stores, items, size, count)
    for name in ("lmdb", "snapshot"):
        report[f"{name}_bytes"] = sum(path.stat().st_size for path in (work / name).iterdir())
        shutil.rmtree(work / name)
    return report


def in_turns(stores: dict[str, TokenNamespace], items: int, size: int, count: int) -> dict[str, object]:
    """Reads the same random keys from each store, round by round."""
    rng = np.random.default_rng(size)
    reads: dict[str, list[Read]] = {name: [] for name in stores}
    for _ in range(ROUNDS):
        requests = [[f"item-{number}" for number in rng.integers(0, items, size)] for _ in range(count)]
        for name, namespace in stores.items():
            reads[name] += [timed(namespace, keys) for keys in requests]
    return {name: facts(all_reads, size) for name, all_reads in reads.items()}


class Read(NamedTuple):
    """Seconds of one read."""

    wall_s: float
    own_s: float  # of this thread


def timed(namespace: TokenNamespace, keys: list[str]) -> Read:
    """Reads once."""
    begun_s, own_s = time.perf_counter(), time.thread_time()
    stored = namespace.read(keys)
    read = Read(time.perf_counter() - begun_s, time.thread_time() - own_s)
    assert len(stored.places) == len(keys)
    return read


def facts(reads: list[Read], size: int) -> dict[str, float]:
    """Sums up rates and times."""
    walls, owns = sorted(read.wall_s for read in reads), sorted(read.own_s for read in reads)
    return {
        "keys_a_second": size * len(walls) / sum(walls),
        "keys_a_second_of_own_time": size * len(owns) / sum(owns),
        "p10_ms": 1000 * walls[len(walls) // 10],
        "p50_ms": 1000 * walls[len(walls) // 2],
        "p99_ms": 1000 * walls[len(walls) * 99 // 100],
        "own_p50_ms": 1000 * owns[len(owns) // 2],
    }


def measure_opening(work: Path, items: int) -> dict[str, object]:
    """Writes a snapshot of small rows, opens it, and reads from it for the first time."""
    path = work / "narrow"
    begun_s = time.perf_counter()
    with SnapshotWriter(path, ENCODER, NARROW, "bench") as writer:
        for keys in batches(items):
            tokens = np.ones((len(keys), 1, 4), np.float16)
            writer.append(Facts(keys, [bytes(16)] * len(keys), [0] * len(keys)), tokens)
        appended_s = time.perf_counter() - begun_s
        writer.seal()
        writer.publish()
    written_s = time.perf_counter() - begun_s
    opened_s, first_s = [], []
    for attempt in range(ROUNDS):
        begun_s = time.perf_counter()
        with SnapshotStore.open(path) as store:
            namespace = store.namespace(ENCODER)
            opened_s.append(time.perf_counter() - begun_s)
            numbers = np.random.default_rng(attempt).integers(0, items, 250)
            first_s.append(timed(namespace, [f"item-{number}" for number in numbers]).wall_s)
    return {
        "items": items,
        "file_bytes": (path / f"{ENCODER}.tokens").stat().st_size,
        "appended_items_a_second": items / appended_s,
        "indexed_s": written_s - appended_s,
        "opened_s_worst": max(opened_s),
        "first_250_keys_ms": [1000 * took_s for took_s in first_s],
    }


def measure_int8(work: Path, demo: Path) -> dict[str, object]:
    """Ranks the demo's held-out queries by its stored tokens, and by the same in int8. NDCG@10 by split."""
    dataset = Dataset.load()
    report: dict[str, object] = {}
    bundle = open_bundle(demo / "ranker.bundle")
    copy_store(str(demo / "tokens.lmdb"), str(work / "int8.snapshot"), dtype="int8")
    for dtype, path in (("float16", demo / "tokens.lmdb"), ("int8", work / "int8.snapshot")):
        with open_store(path, read_only=True) as store, Ranker.load(bundle, store=store) as ranker:
            report[dtype] = {split: ndcg(ranker, dataset.split(split)) for split in ("test", "unseen-test")}
    return report


def ndcg(ranker: Ranker, queries: Sequence[JudgedQuery]) -> dict[str, float]:
    """Scores queries by key. Mean NDCG@10."""
    keys = [[Key(id) for id in query.item_ids] for query in queries]
    scores = [
        ranker.score({"query": query.text}, own).scores for query, own in zip(queries, keys, strict=True)
    ]
    return {"queries": len(queries), "ndcg_at_10": mean_ndcg(queries, scores)}


def batches(items: int) -> Iterator[list[str]]:
    """Yields all keys, a batch at a time."""
    for start in range(0, items, BATCH):
        yield [f"item-{number}" for number in range(start, min(start + BATCH, items))]


def random_rows(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    """Makes tokens of random bits that are finite numbers. [count, 1, 1024]"""
    bits = np.random.default_rng(count).integers(0, 0x7BFF, (count, 1, 1024), np.uint16)
    return bits.view(np.float16)


if __name__ == "__main__":
    main()
