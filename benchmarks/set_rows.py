"""Rows of ids: how they are found by keys, and kept on a GPU, by the room for them; the host's time for a request's.

    python -m benchmarks.set_rows [--requests 400] [--out build/bench]

Two tables of a million rows of 64 values in int8, 2,560 ids of each a request, by Zipf's law. Needs no GPU: which rows
lie there is the host's to know. Shares are of the second half of the requests, times processor time of one thread.
Keys are ten million random ids of 64 bits, 2,048 a request, beside a binary search of the same ids in a mapped file.
"""

import argparse
import json
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe_machine
from rankport.runtime.backends.layouts.row_slots import RowSlots
from rankport.runtime.bundle.sections.sets import IdTable
from rankport.runtime.kinds.set_ranker.id_keys import IdKeys, key_file_bytes
from rankport.runtime.kinds.set_ranker.tables import RowTable, row_file_bytes

ROWS, WIDTH, IDS, TABLES = 1_000_000, 64, 2560, 2
KEYS, ASKED = 10_000_000, 2048
ROOM = (0.01, 0.05, 0.1, 0.25, 1.0)
Ids = NDArray[np.int64]


def main() -> None:
    """Measures every room, prints a line each, writes set_rows.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=400, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="default: %(default)s")
    given = parser.parse_args()
    requests = drawn(given.requests)
    with tempfile.TemporaryDirectory() as scratch:
        table = _table(Path(scratch))
        report: dict[str, Any] = {"machine": describe_machine()}
        report[f"{ASKED} ids of {KEYS} keys"] = line = by_keys(Path(scratch), given.requests)
        print("keys", json.dumps(line))
        again = requests[len(requests) // 2 :]
        report["host, ms"] = {
            "looks ids up": looking_up_ms(table, requests),
            "all rows there": kept(table, [*again, *again], ROWS)["host, ms"],
        }
        print("host, ms", json.dumps(report["host, ms"]))
        for room in ROOM:
            slots = int(ROWS * room)
            report[f"{room:.0%} of the rows"] = line = kept(table, requests, slots)
            print(f"{room:.0%} of the rows", json.dumps(line))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "set_rows.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def by_keys(scratch: Path, requests: int) -> dict[str, float]:
    """Measures how ids of 64 bits find their rows, and what the file of keys takes."""
    rng, file, plain = np.random.default_rng(2), scratch / "item.keys", scratch / "sorted.npy"
    ids = np.unique(rng.integers(-(2**63), 2**63 - 1, KEYS + KEYS // 1000))[:KEYS]
    begun_s = time.process_time()
    file.write_bytes(key_file_bytes(ids, rng.permutation(KEYS)))
    written_s = time.process_time() - begun_s
    np.save(plain, ids)
    asked = [ids[rng.integers(0, KEYS, ASKED)] for _ in range(requests)]
    unknown = [rng.integers(-(2**63), 2**63 - 1, ASKED) for _ in range(requests)]
    del ids
    begun_s = time.process_time()
    keys = IdKeys.open(file, KEYS, KEYS)
    opened_s = time.process_time() - begun_s
    ordered = np.load(plain, mmap_mode="r")
    times = {
        "found, ms": _milliseconds(keys.find, asked),
        "none known, ms": _milliseconds(keys.find, unknown),
        "binary search, ms": _milliseconds(ordered.searchsorted, asked),
        "binary search of ids in order, ms": _milliseconds(
            ordered.searchsorted, [np.sort(each) for each in asked]
        ),
    }
    return {
        **times,
        "open, ms": opened_s * 1000,
        "written, s": written_s,
        "bytes a key": file.stat().st_size / KEYS,
    }


def drawn(count: int) -> list[Ids]:
    """Draws the ids of requests. [IDS] each"""
    rng = np.random.default_rng(0)
    popular = np.cumsum(1 / np.arange(1, ROWS + 1))
    order = rng.permutation(ROWS)
    return [order[np.searchsorted(popular, rng.random(IDS) * popular[-1])] for _ in range(count)]


def kept(table: RowTable, requests: Sequence[Ids], room: int) -> dict[str, float]:
    """Measures room for so many rows: the share that is there, the least recently used beside it, and time."""
    every = [RowSlots(ROWS, room + 1) for _ in range(TABLES)]
    staged = np.zeros((IDS, WIDTH), np.int8)
    sent = 0

    def write(first: int, rows: Ids) -> None:
        nonlocal sent
        values, _ = table.read(rows)
        staged[: len(rows)] = values
        sent += len(rows)

    def look(ids: Ids) -> None:
        for slots in every:
            places = table.places(ids, "ids")
            missing = slots.missing(places)
            if len(missing):
                table.read(missing)  # ahead of the pass
            slots.place(places, write)

    half = len(requests) // 2
    for ids in requests[:half]:
        look(ids)
    sent = 0
    milliseconds = _milliseconds(look, requests[half:])
    return {
        "there": 1 - sent / (TABLES * IDS * (len(requests) - half)),
        "there, the least recently used gone first": least_recently_used(requests, room),
        "host, ms": milliseconds,
    }


def least_recently_used(requests: Sequence[Ids], room: int) -> float:
    """Computes the share that would be there."""
    there: OrderedDict[int, None] = OrderedDict()
    half, found = len(requests) // 2, 0
    for number, ids in enumerate(requests):
        for row in ids.tolist():
            if row in there:
                there.move_to_end(row)
                found += number >= half
                continue
            there[row] = None
            if len(there) > room:
                there.popitem(last=False)
    return found / (IDS * (len(requests) - half))


def looking_up_ms(table: RowTable, requests: Sequence[Ids]) -> float:
    """Measures what graphs that gather nothing are given: rows in fp32 beside each other."""
    staged = np.zeros((IDS, TABLES * WIDTH), np.float32)

    def look(ids: Ids) -> None:
        staged[...] = np.concatenate([table.gather(ids, "ids") for _ in range(TABLES)], axis=1)

    for ids in requests:
        look(ids)  # the pages of the file are there
    return _milliseconds(look, requests)


def _table(scratch: Path) -> RowTable:
    rng, file = np.random.default_rng(1), scratch / "item.rows"
    codes = rng.integers(-127, 128, (ROWS, WIDTH), dtype=np.int8)
    file.write_bytes(row_file_bytes(codes, rng.random(ROWS, np.float32)))
    return RowTable.open(file, "item", IdTable(rows=ROWS, width=WIDTH), "int8")


def _milliseconds(look: Callable[[Ids], object], requests: Sequence[Ids]) -> float:
    begun_s = time.process_time()
    for ids in requests:
        look(ids)
    return (time.process_time() - begun_s) / len(requests) * 1000


if __name__ == "__main__":
    main()
