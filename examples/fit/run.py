"""Fit end to end: train on ESCO's judged titles, export, classify the test split. `python -m examples.fit.run`

Writes build/fit: the checkpoint, its bundle and report.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from benchmarks.machine import describe_machine
from examples.arguments import add_out
from examples.esco.dataset import Dataset
from examples.fit.dataset import LEVELS, FitPairs, fit_pairs
from examples.fit.training import Recipe, train
from examples.progress import losses
from rankport.sdk import Classifier, EngineConfig, export
from rankport.sdk.cli.output.progress import steps

OUT = Path("build/fit")
REQUEST_PAIRS = 20


def main() -> None:
    """Runs every step and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_out(parser, OUT)
    out: Path = parser.parse_args().out
    disable_progress_bar()
    console, begun = Console(), time.perf_counter()
    dataset = Dataset.load()
    train_pairs, test = fit_pairs(dataset, "train"), fit_pairs(dataset, "test")
    with losses("training on jobs and candidates", console) as on_loss:
        model = train(train_pairs, Recipe(), on_loss)
    checkpoint = model.save(out / "checkpoint")
    with steps(console) as say:
        bundle = export(
            checkpoint,
            out / "fit.bundle",
            kind="classifier",
            texts="pair",
            overwrite=True,
            on_progress=lambda step: say(f"exporting: {step}"),
        )
        say("test split")
        by_checkpoint = model.predict(test.pairs)
        with Classifier.load(bundle, config=EngineConfig(threads=2)) as classifier:
            by_bundle, pairs_per_s = classified(classifier, test)
    apart = sum(ours != theirs for ours, theirs in zip(by_bundle, by_checkpoint, strict=True))
    report = {
        "train_pairs": len(train_pairs.levels),
        "test_pairs": len(test.levels),
        "majority": test.majority,
        "checkpoint": figures(by_checkpoint, test.levels),
        "bundle": figures(by_bundle, test.levels),
        "otherwise_than_checkpoint": apart,
        "pairs_per_s": pairs_per_s,
        "seconds": time.perf_counter() - begun,
        "machine": describe_machine(),
    }
    print_table(console, test.majority, report)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"[dim]{out / 'report.json'}; {report['seconds']:.0f} s")
    if apart > len(test.levels) // 1000:
        sys.exit(f"the bundle tells {apart} levels otherwise than its checkpoint")


def classified(classifier: Classifier, test: FitPairs) -> tuple[list[int], float]:
    """Classifies pairs, those of a job in one request. Returns levels, and pairs a second."""
    begun, levels, pairs = time.perf_counter(), list[int](), test.pairs
    for start in range(0, len(pairs), REQUEST_PAIRS):
        result = classifier.classify(pairs[start : start + REQUEST_PAIRS], truncation="truncate")
        levels += [LEVELS.index(name) for name in result.best]
    return levels, len(pairs) / (time.perf_counter() - begun)


def figures(found: Sequence[int], wanted: Sequence[int]) -> dict[str, object]:
    """Computes accuracy, the mean of the levels' F1, and the F1 of each."""
    ours, own = np.array(found), np.array(wanted)
    f1 = {}
    for place, name in enumerate(LEVELS):
        both, either = np.sum((ours == place) & (own == place)), np.sum(ours == place) + np.sum(own == place)
        f1[name] = float(2 * both / either) if either else 1.0
    return {"accuracy": float(np.mean(ours == own)), "macro_f1": float(np.mean(list(f1.values()))), "f1": f1}


def print_table(console: Console, majority: float, report: Mapping[str, object]) -> None:
    """Prints a row for whoever tells levels."""
    table = Table(title="Fit of candidates to jobs, test split of ESCO", title_justify="left")
    for heading in ("", "accuracy", "macro F1", *(f"F1 {name}" for name in LEVELS)):
        table.add_column(heading)
    table.add_row("always the most frequent", f"{majority:.4f}")
    for name in ("checkpoint", "bundle"):
        row = report[name]
        assert isinstance(row, dict)
        each = [f"{value:.3f}" for value in row["f1"].values()]
        table.add_row(name, f"{row['accuracy']:.4f}", f"{row['macro_f1']:.4f}", *each)
    console.print(table)
    console.print(f"{report['pairs_per_s']:,.0f} pairs/s")


if __name__ == "__main__":
    main()
