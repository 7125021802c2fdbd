"""List ranker, end to end: train, export for blocks of 5, 20 and 125, judge. `python -m examples.listwise.run`

Writes build/listwise: the checkpoint, its bundles and report.json. The point-wise ranker's row is that of
`python -m examples.cross_encoder.run`, which has the same body and lists, and is left out where that was not run.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from benchmarks.machine import describe_machine
from examples.esco.dataset import Dataset
from examples.listwise.judging import Scores, by_bundle, by_minilm, judged_lists, mean_ndcg
from examples.listwise.training import DrawnList, TrainingConfig, save, score_checkpoint, train
from rankport.runtime.bundle.bundle import Bundle
from rankport.sdk import export

OUT = Path("build/listwise")
POINTWISE = Path("build/cross_encoder/cross-encoder.bundle")
BLOCKS = (5, 20, 125)
LONG_QUERIES = 40  # of the test split, which get 125 candidates
SPLITS = {"test": "by query", "unseen-test": "unseen items", "long": "125 candidates"}

Lists = Mapping[str, Sequence[DrawnList]]
Row = dict[str, float]


def main() -> None:
    """Runs every step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    report = run(parser.parse_args().out, Console())
    difference = report["largest_ndcg_difference_from_checkpoint"]
    if difference > 1e-6:
        sys.exit(f"the bundle ranks otherwise than its checkpoint: NDCG@10 differs by {difference:.1e}")


def run(folder: Path, console: Console) -> dict[str, Any]:
    """Trains, exports, judges and prints the table. Returns the report, which it writes."""
    started = time.perf_counter()
    disable_progress_bar()
    dataset = Dataset.load()
    checkpoint = folder / "checkpoint"
    with Progress(console=console) as progress:
        task = progress.add_task("training on lists", total=None)
        model, tokenizer = train(
            dataset,
            TrainingConfig(),
            lambda step, steps, loss: progress.update(
                task, completed=step, total=steps, description=f"training on lists, loss {loss:.3f}"
            ),
        )
    save(model, tokenizer, checkpoint)
    trained_s = time.perf_counter() - started
    bundles = {block: _exported(console, checkpoint, folder, block) for block in BLOCKS}
    lists = lists_of(dataset)
    with console.status("judging"):
        exact = {
            split: mean_ndcg(part, score_checkpoint(model, tokenizer, part))
            for split, part in lists.items()
            if split != "long"
        }
        ndcg, items_per_s = judge(lists, bundles)
    whole = ndcg[f"list-ranker, blocks of {BLOCKS[-1]}"]
    report = {
        "ndcg_at_10": {"checkpoint in torch": exact, **ndcg},
        "items_per_s": items_per_s,
        "largest_ndcg_difference_from_checkpoint": max(
            abs(whole[split] - value) for split, value in exact.items()
        ),
        "max_abs_error": {mode.mode: mode.max_abs_error for mode in _parity(bundles[20]).modes},
        "order": _parity(bundles[20]).order.model_dump(),  # type: ignore[union-attr]
        "train_s": trained_s,
        "seconds": time.perf_counter() - started,
        "machine": describe_machine(),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _print(console, report)
    console.print(f"[dim]{folder / 'report.json'}; {report['seconds']:.0f} s")
    return report


def lists_of(dataset: Dataset) -> Lists:
    """Makes the lists of each column: those as judged, and long ones."""
    lists = {split: judged_lists(dataset, dataset.split(split), None) for split in SPLITS if split != "long"}
    long = judged_lists(dataset, dataset.split("test")[:LONG_QUERIES], BLOCKS[-1])
    return {**lists, "long": long}


def judge(lists: Lists, bundles: Mapping[int, Bundle]) -> tuple[dict[str, Row], dict[str, float]]:
    """Gives NDCG@10 of each ranker by split, and items a second of long lists."""
    paths = {f"list-ranker, blocks of {block}": bundle.path for block, bundle in bundles.items()}
    if POINTWISE.exists():
        paths["cross-encoder, point by point"] = POINTWISE
    ndcg = {"MiniLM's cosine": _row(lists, {split: by_minilm(part) for split, part in lists.items()})}
    rates = {}
    for name, path in paths.items():
        scores: dict[str, Scores] = {}
        for split, part in lists.items():
            begun = time.perf_counter()
            scores[split] = by_bundle(path, part)
            rates[name] = sum(len(drawn.titles) for drawn in part) / (time.perf_counter() - begun)
        ndcg[name] = _row(lists, scores)
    return ndcg, rates


def _row(lists: Lists, scores: Mapping[str, Scores]) -> Row:
    return {split: mean_ndcg(part, scores[split]) for split, part in lists.items()}


def _exported(console: Console, checkpoint: Path, folder: Path, block: int) -> Bundle:
    with console.status("exporting") as status:
        return export(
            checkpoint,
            folder / f"blocks-of-{block}.bundle",
            kind="list-ranker",
            max_list_items=block,
            overwrite=True,
            on_progress=lambda step: status.update(f"exporting for blocks of {block}: {step}"),
        )


def _parity(bundle: Bundle) -> Any:
    assert bundle.manifest.parity is not None
    return bundle.manifest.parity


def _print(console: Console, report: Mapping[str, Any]) -> None:
    table = Table(title="ESCO job titles, NDCG@10", title_justify="left")
    for heading in ("ranker", *SPLITS.values(), "items/s"):
        table.add_column(heading)
    for name, row in report["ndcg_at_10"].items():
        rate = report["items_per_s"].get(name)
        figures = (f"{row[split]:.4f}" if split in row else "" for split in SPLITS)
        table.add_row(name, *figures, "" if rate is None else f"{rate:,.0f}")
    console.print(table)
    console.print(_order_in_words(report["order"]))


def _order_in_words(order: Mapping[str, float]) -> str:
    return (
        f"in another order of 12 random texts: Kendall's tau {order['kendall_tau']:.2f} on average, "
        f"a score moves by up to {order['max_score_move']:.3f}"
    )


if __name__ == "__main__":
    main()
