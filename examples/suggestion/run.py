"""Suggestion end to end: train on ESCO's titles, export, suggest labels. `python -m examples.suggestion.run`

Writes build/suggestion: the checkpoint, its bundle and report.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from benchmarks.machine import describe_machine
from examples.arguments import add_out
from examples.progress import losses
from examples.suggestion.bleu import bleu
from examples.suggestion.dataset import TitlePairs, title_pairs
from examples.suggestion.training import Recipe, Suggester, train
from rankport.sdk import EngineConfig, Generator, Sampling, export
from rankport.sdk.cli.output.progress import steps

OUT = Path("build/suggestion")
BEAMS = 4
TIMED, TOGETHER = 200, 64


def main() -> None:
    """Runs every step and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_out(parser, OUT)
    out: Path = parser.parse_args().out
    disable_progress_bar()
    console, begun = Console(), time.perf_counter()
    train_pairs, test = title_pairs()
    with losses("training on titles and labels", console) as on_loss:
        model = train(train_pairs, Recipe(), on_loss)
    trained_s = time.perf_counter() - begun
    checkpoint = model.save(out / "checkpoint")
    with steps(console) as say:
        bundle = export(
            checkpoint,
            out / "suggestion.bundle",
            kind="seq2seq",
            overwrite=True,
            on_progress=lambda step: say(f"exporting: {step}"),
        )
        say("test titles")
        with Generator.load(bundle, config=EngineConfig(threads=1)) as generator:
            report = {
                "train_pairs": len(train_pairs.titles),
                "test_pairs": len(test.titles),
                "greedy": measured(model, generator, test, 1),
                "beams": measured(model, generator, test, BEAMS),
                "trained_s": trained_s,
                "seconds": time.perf_counter() - begun,
                "machine": describe_machine(),
            }
    print_table(console, report)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"[dim]{out / 'report.json'}; {report['seconds']:.0f} s")
    apart = max(report[way]["otherwise_than_checkpoint"] for way in ("greedy", "beams"))
    if apart > len(test.titles) // 500:
        sys.exit(f"the bundle writes {apart} labels otherwise than its checkpoint")


def measured(model: Suggester, generator: Generator, test: TitlePairs, beams: int) -> dict[str, Any]:
    """Suggests a label of each title by checkpoint and bundle."""
    by_checkpoint = model.suggest(test.titles, beams)
    sampling, begun = Sampling(beams=beams), time.perf_counter()
    results = []
    for start in range(0, len(test.titles), TOGETHER):
        titles = test.titles[start : start + TOGETHER]
        futures = [generator.submit_generate(title, sampling) for title in titles]
        results += [future.result() for future in futures]
    texts_per_s = len(results) / (time.perf_counter() - begun)
    by_bundle = [result.text for result in results]
    found = [[beam.text for beam in result.beams] or [result.text] for result in results]
    hits = [label in texts for texts, label in zip(found, test.labels, strict=True)]
    return {
        "checkpoint": figures(by_checkpoint, test.labels),
        "bundle": figures(by_bundle, test.labels),
        f"among_{beams}": float(np.mean(hits)),
        "otherwise_than_checkpoint": sum(
            ours != theirs for ours, theirs in zip(by_bundle, by_checkpoint, strict=True)
        ),
        "texts_per_s_together": texts_per_s,
        "latency_ms": latencies(generator, test.titles[:TIMED], sampling),
    }


def figures(texts: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """Computes the share of labels that are met exactly, and BLEU."""
    exact = np.mean([text == label for text, label in zip(texts, labels, strict=True)])
    return {"exact": float(exact), "bleu": bleu(texts, labels)}


def latencies(generator: Generator, titles: Sequence[str], sampling: Sampling) -> dict[str, float]:
    """Times suggestions one after another."""
    took = []
    for title in titles:
        begun = time.perf_counter()
        generator.generate(title, sampling)
        took.append((time.perf_counter() - begun) * 1e3)
    return {"p50": float(np.percentile(took, 50)), "p99": float(np.percentile(took, 99))}


def print_table(console: Console, report: dict[str, Any]) -> None:
    """Prints a row for whoever suggests."""
    table = Table(title="Labels of unseen titles of ESCO", title_justify="left")
    for heading in ("", "exact", "BLEU", "p50 ms", "p99 ms", "texts/s together"):
        table.add_column(heading)
    for way in ("greedy", "beams"):
        row = report[way]
        for name in ("checkpoint", "bundle"):
            timed = [] if name == "checkpoint" else [*row["latency_ms"].values(), row["texts_per_s_together"]]
            cells = [
                f"{row[name]['exact']:.4f}",
                f"{row[name]['bleu']:.4f}",
                *(f"{value:.1f}" for value in timed),
            ]
            table.add_row(f"{name}, {'greedy' if way == 'greedy' else f'{BEAMS} beams'}", *cells)
    console.print(table)
    console.print(f"label among the {BEAMS} that beams find: {report['beams'][f'among_{BEAMS}']:.4f}")


if __name__ == "__main__":
    main()
