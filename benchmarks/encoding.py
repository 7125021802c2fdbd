"""`rankport encode` on the CPU against its own encoder and sentence-transformers, on texts of mixed length.

    python -m benchmarks.encoding [--texts 1024] [--rounds 5] [--threads 2] [--out build/bench]

MiniLM encodes ESCO's texts, cut to 4 to 120 words. In every round, in turn: the job from a CSV to a new LMDB, in fp32
and int8; the encoders of both in this process, given all texts at once; and `SentenceTransformer.encode`. Ratios are of
a round, then their median is taken. Those of processor time (`cpu`) are what other work on the machine leaves alone.
"""

import argparse
import csv
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from benchmarks.machine import describe_machine
from examples.esco.dataset import Dataset
from examples.esco.minilm import minilm_path
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.store.opening import open_store
from rankport.sdk import encode, export

WORDS = (4, 10, 20, 40, 80, 120)
PRECISIONS = {"fp32": None, "int8": "int8"}
PEER = "sentence-transformers"
GOALS = {
    "job fp32 / encoder fp32": 0.9,
    "job int8 / encoder int8": 0.9,
    f"job fp32 / {PEER}": 1.5,
    f"job int8 / {PEER}": 2.5,
}


class Spent(NamedTuple):
    """Time of a run."""

    wall_s: float
    cpu_s: float  # of all threads


def main() -> None:
    """Measures and writes encoding.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    texts = mixed_texts(arguments.texts)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        sides = make_sides(texts, arguments, Path(folder), opened)
        for run in sides.values():  # warm
            run()
        rounds = [{name: spent(run) for name, run in sides.items()} for _ in range(arguments.rounds)]
        report = {
            "texts": len(texts),
            "words": list(WORDS),
            "threads": arguments.threads,
            "texts_a_second": {
                name: len(texts) / statistics.median(turn[name].wall_s for turn in rounds) for name in sides
            },
            "ratios": {name: ratio(name, rounds) | {"goal": goal} for name, goal in GOALS.items()},
            "cosine_to_peer": agreement(texts, Path(folder)),
            "machine": describe_machine(),
        }
    (arguments.out / "encoding.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def mixed_texts(count: int) -> list[str]:
    """Draws occupations' texts, cut to lengths of all sizes; no two are alike."""
    rng = random.Random(0)
    items = rng.sample(Dataset.load().items, count)
    return [" ".join(item.text.split()[: rng.choice(WORDS)]) for item in items]


def make_sides(
    texts: Sequence[str], arguments: argparse.Namespace, folder: Path, opened: ExitStack
) -> dict[str, Callable[[], object]]:
    """Exports what is missing, loads all, and gives what runs each once."""
    items = folder / "items.csv"
    with items.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("id", "text"))
        rows.writerows((f"item-{number}", text) for number, text in enumerate(texts))
    sides: dict[str, Callable[[], object]] = {}
    for precision, encoder in load_encoders(arguments, opened).items():
        sides[f"job {precision}"] = Job(encoder, items, folder / precision)
        sides[f"encoder {precision}"] = lambda encoder=encoder: encoder.encode(texts, truncation="truncate")  # type: ignore[misc]
    library = load_peer()
    sides[PEER] = lambda: library.encode(list(texts), show_progress_bar=False)
    return sides


def load_encoders(arguments: argparse.Namespace, opened: ExitStack) -> dict[str, ItemEncoder]:
    """Loads MiniLM in all precisions."""
    encoders = {}
    for precision, recipe in PRECISIONS.items():
        bundle = arguments.out / f"minilm-{precision}.bundle"
        if not bundle.exists():
            export(minilm_path(), bundle, kind="item-encoder", quantize=recipe)
        config = EngineConfig(threads=arguments.threads)
        encoders[precision] = opened.enter_context(ItemEncoder.load(bundle, config=config))
    return encoders


class Job:
    """Job from the file to a new store."""

    def __init__(self, encoder: ItemEncoder, items: Path, stores: Path) -> None:
        self._encoder, self._items, self._stores, self._runs = encoder, items, stores, 0

    def __call__(self) -> None:
        self._runs += 1
        report = encode(self._encoder, self._items, self._stores / str(self._runs))
        assert report.encoded == report.rows_read


def spent(run: Callable[[], object]) -> Spent:
    """Runs it once."""
    begun_s, cpu_s = time.perf_counter(), process_cpu_s()
    run()
    return Spent(time.perf_counter() - begun_s, process_cpu_s() - cpu_s)


def process_cpu_s() -> float:
    """Reads the processor time of all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def ratio(name: str, rounds: Sequence[dict[str, Spent]]) -> dict[str, object]:
    """Compares the speeds of two sides named "a / b", round by round."""
    ours, other = name.split(" / ")
    walls = [turn[other].wall_s / turn[ours].wall_s for turn in rounds]
    cpus = [turn[other].cpu_s / turn[ours].cpu_s for turn in rounds]
    return {
        "wall": statistics.median(walls),
        "wall_of_rounds": walls,
        "cpu": statistics.median(cpus),
    }


def agreement(texts: Sequence[str], folder: Path) -> dict[str, float]:
    """Compares what the jobs stored with what the peer computes: the mean cosine."""
    theirs = load_peer().encode(list(texts), show_progress_bar=False)
    cosines = {}
    for precision in PRECISIONS:
        with open_store(folder / precision / "1", read_only=True) as store:
            keys = [f"item-{number}" for number in range(len(texts))]
            tokens = (
                store.namespace(next(iter(store.fingerprints()))).read(keys).tokens[:, 0].astype(np.float32)
            )
        lengths = np.linalg.norm(tokens, axis=1) * np.linalg.norm(theirs, axis=1)
        cosines[precision] = float(((tokens * theirs).sum(axis=1) / lengths).mean())
    return cosines


def load_peer() -> SentenceTransformer:
    """Loads the library's model of the same checkpoint, used as its documentation shows."""
    return SentenceTransformer(str(minilm_path()), device="cpu", local_files_only=True)


if __name__ == "__main__":
    main()
