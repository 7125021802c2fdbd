"""Intents end to end: train on snips and banking77, export, classify the test splits. `python -m examples.intent.run`

Writes build/intent: checkpoints, bundles and report.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from benchmarks.machine import describe_machine
from examples.arguments import add_out
from examples.intent.dataset import IntentTexts, read_banking77, read_snips
from examples.intent.training import Body, train_head
from rankport.sdk import Classifier, EngineConfig, export
from rankport.sdk.cli.output.progress import steps

OUT = Path("build/intent")
REQUEST_TEXTS = 32


def main() -> None:
    """Runs both sets and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_out(parser, OUT)
    out: Path = parser.parse_args().out
    disable_progress_bar()
    console, begun = Console(), time.perf_counter()
    body = Body.load()
    sets = {
        "snips": (read_snips("train"), read_snips("test")),
        "banking77": (read_banking77("train"), read_banking77("test")),
    }
    report: dict[str, Any] = {
        name: run_set(console, body, train, test, out / name) for name, (train, test) in sets.items()
    }
    print_table(console, report)
    report |= {"seconds": time.perf_counter() - begun, "machine": describe_machine()}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"[dim]{out / 'report.json'}; {report['seconds']:.0f} s")


def run_set(
    console: Console, body: Body, train: IntentTexts, test: IntentTexts, out: Path
) -> dict[str, float]:
    """Trains on one set, exports, and compares bundle and checkpoint on its test split."""
    with steps(console) as say:
        say(f"{out.name}: states of the texts")
        states = body.states_to_learn_from(train.texts)
        head = train_head(states, train)
        checkpoint = head.save(body, out / "checkpoint")
        bundle = export(
            checkpoint,
            out / "intents.bundle",
            overwrite=True,
            on_progress=lambda step: say(f"{out.name}: {step}"),
        )
        say(f"{out.name}: test split")
        by_checkpoint = head.predict(body.states(test.texts))
        with Classifier.load(bundle, config=EngineConfig(threads=2)) as classifier:
            by_bundle, texts_per_s = classified(classifier, test.texts)
    apart = sum(ours != theirs for ours, theirs in zip(by_bundle, by_checkpoint, strict=True))
    if apart > len(test) // 1000:
        sys.exit(f"{out.name}: the bundle names {apart} intents otherwise than its checkpoint")
    return {
        "labels": len(head.intents),
        "train_texts": len(train),
        "test_texts": len(test),
        "accuracy_checkpoint": accuracy(by_checkpoint, test),
        "accuracy_bundle": accuracy(by_bundle, test),
        "otherwise_than_checkpoint": apart,
        "texts_per_s": texts_per_s,
    }


def classified(classifier: Classifier, texts: list[str]) -> tuple[list[str], float]:
    """Classifies texts in requests of a few, as they come. Returns the labels, and texts a second."""
    begun, labels = time.perf_counter(), list[str]()
    for start in range(0, len(texts), REQUEST_TEXTS):
        labels += classifier.classify(texts[start : start + REQUEST_TEXTS], truncation="truncate").best
    return labels, len(texts) / (time.perf_counter() - begun)


def accuracy(found: list[str], test: IntentTexts) -> float:
    """Computes the share of texts with the intent that they have."""
    return float(np.mean([ours == own for ours, own in zip(found, test.intents, strict=True)]))


def print_table(console: Console, report: Mapping[str, Mapping[str, float]]) -> None:
    """Prints a row a set."""
    table = Table(title="Intents of the test splits", title_justify="left")
    for heading in ("set", "intents", "accuracy of the checkpoint", "of the bundle", "texts/s"):
        table.add_column(heading)
    for name, row in report.items():
        figures = (f"{row['accuracy_checkpoint']:.4f}", f"{row['accuracy_bundle']:.4f}")
        table.add_row(name, f"{row['labels']}", *figures, f"{row['texts_per_s']:,.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
