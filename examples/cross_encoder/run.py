"""Cross-encoder, end to end: train, export in fp32 and int8, judge, compare. `python -m examples.cross_encoder.run`

Writes build/cross_encoder: the checkpoint, its two bundles and report.json. The mix ranker's row needs `make demo`.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from benchmarks.machine import describe_machine
from examples.arguments import add_out
from examples.cross_encoder.training import TrainingConfig, save, score_checkpoint, train
from examples.esco.baselines import mean_ndcg
from examples.esco.dataset import Dataset, JudgedQuery
from examples.progress import losses
from rankport.protos.types import Key
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.sdk import Ranker, Scorer, export
from rankport.sdk.cli.output.progress import steps

OUT = Path("build/cross_encoder")
DEMO = Path("build/demo")
SPLITS = {"test": "by query", "unseen-test": "unseen items"}
TIMED_QUERIES = 24
ROUNDS = 3

Score = Callable[[JudgedQuery], np.ndarray]
"""Scores the candidates of a query. [items]"""


def main() -> None:
    """Runs every step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_out(parser, OUT)
    arguments = parser.parse_args()
    console, started = Console(), time.perf_counter()
    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]  # of a head that is not in MiniLM's checkpoint
    dataset = Dataset.load()
    folder: Path = arguments.out
    checkpoint = folder / "checkpoint"
    with losses("training on title pairs", console) as on_loss:
        model, tokenizer = train(dataset, TrainingConfig(), on_loss)
    save(model, tokenizer, checkpoint)
    bundles = {None: folder / "cross-encoder.bundle", "int8": folder / "cross-encoder-int8.bundle"}
    for recipe, bundle in bundles.items():
        with steps(console) as say:
            export(
                checkpoint,
                bundle,
                kind="cross-encoder",
                quantize=recipe,
                overwrite=True,
                on_progress=lambda step: say(f"exporting: {step}"),
            )
    report = compare(console, dataset, checkpoint, bundles[None], bundles["int8"])
    report |= {"seconds": time.perf_counter() - started, "machine": describe_machine()}
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"[dim]{folder / 'report.json'}; {report['seconds']:.0f} s")


def compare(
    console: Console, dataset: Dataset, checkpoint: Path, exact: Path, int8: Path
) -> dict[str, object]:
    """Measures quality and speed of all, prints the table. Ends the run if the bundle is not its checkpoint."""
    titles = {item.id: item.title for item in dataset.items}
    queries = {split: dataset.split(split) for split in SPLITS}
    console.print("judging")
    with Scorer.load(exact) as full, Scorer.load(int8) as small:
        rankers: dict[str, Score] = {
            "cross-encoder": lambda query: (
                full.score(query.text, [titles[id] for id in query.item_ids]).scores
            ),
            "cross-encoder int8": lambda query: (
                small.score(query.text, [titles[id] for id in query.item_ids]).scores
            ),
        }
        ndcg = {
            "checkpoint in torch": {
                split: mean_ndcg(part, score_checkpoint(checkpoint, dataset, part))
                for split, part in queries.items()
            }
        }
        with _demo_rankers(dataset) as demo:
            rankers |= demo.scores
            ndcg |= {name: _quality(score, queries) for name, score in rankers.items()}
            speed = _items_per_s(rankers, queries["test"][:TIMED_QUERIES])
    table = Table(title="ESCO job titles, NDCG@10 over 20 candidates a query", title_justify="left")
    for heading in ("ranker", *SPLITS.values(), "items/s"):
        table.add_column(heading)
    for name, figures in ndcg.items():
        rate = f"{speed[name]:,.0f}" if name in speed else ""
        table.add_row(name, *(f"{figures[split]:.4f}" for split in SPLITS), rate)
    console.print(table)
    for split in SPLITS:
        if abs(ndcg["cross-encoder"][split] - ndcg["checkpoint in torch"][split]) > 1e-6:
            sys.exit(f"the bundle ranks the split {split} otherwise than its checkpoint")
    return {"ndcg_at_10": ndcg, "items_per_s": speed}


def _quality(score: Score, queries: Mapping[str, Sequence[JudgedQuery]]) -> dict[str, float]:
    return {split: mean_ndcg(part, [score(query) for query in part]) for split, part in queries.items()}


def _items_per_s(rankers: Mapping[str, Score], queries: Sequence[JudgedQuery]) -> dict[str, float]:
    """Times all in turn, the first round to warm up; medians."""
    rates: dict[str, list[float]] = {name: [] for name in rankers}
    items = sum(len(query.item_ids) for query in queries)
    for round_ in range(ROUNDS + 1):
        for name, score in rankers.items():
            begun = time.perf_counter()
            for query in queries:
                score(query)
            if round_:
                rates[name].append(items / (time.perf_counter() - begun))
    return {name: statistics.median(values) for name, values in rates.items()}


class _demo_rankers:  # noqa: N801  # a context manager, used as a function
    """The demo's mix ranker and its encoder's cosine over the token store; none where the demo was not made."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.scores: dict[str, Score] = {}
        self._open: list[Ranker | ItemEncoder] = []

    def __enter__(self) -> "_demo_rankers":
        if not (DEMO / "report.json").exists():
            return self
        ranker = Ranker.load(DEMO / "ranker.bundle", store=DEMO / "tokens.lmdb")
        encoder = ItemEncoder.load(DEMO / "encoder.bundle")
        self._open = [ranker, encoder]
        vectors = encoder.encode([item.text for item in self._dataset.items], truncation="truncate")[:, 0]
        rows = self._dataset.rows()
        self.scores = {
            "mix ranker": lambda query: (
                ranker.score({"query": query.text}, [Key(id) for id in query.item_ids]).scores
            ),
            "bi-encoder": lambda query: (
                vectors[[rows[id] for id in query.item_ids]].astype(np.float32)
                @ encoder.encode([query.text])[0, 0].astype(np.float32)
            ),
        }
        return self

    def __exit__(self, *error: object) -> None:
        for model in self._open:
            model.close()


if __name__ == "__main__":
    main()
