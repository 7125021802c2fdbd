"""Completion end to end: train a language model of titles, export, rank candidates. `python -m examples.completion.run`

What is typed is the prefix, which grows by a character a keystroke; candidates are what may follow. A keystroke is one
pass over all of them, behind KV of which all but the last character is kept from the keystroke before. Writes
build/completion: checkpoint, bundle and report.json.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from benchmarks.machine import describe_machine
from examples.completion.catalogue import Endings, Keystrokes, reciprocal_rank, split, typing
from examples.completion.training import Recipe, train
from examples.esco.dataset import Dataset
from rankport.sdk import EngineConfig, Generator, export

OUT = Path("build/completion")
TITLES = 300
COMPARED = 5


def main() -> None:
    """Trains, exports, measures, prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    out: Path = parser.parse_args().out
    disable_progress_bar()
    console, begun = Console(), time.perf_counter()
    learned, others = split(Dataset.load())
    endings, typed = Endings(learned), typing(others, TITLES)
    with console.status("training") as status:
        checkpoint = train(
            learned,
            Recipe(),
            out / "checkpoint",
            lambda done, all_: status.update(f"training: step {done}/{all_}"),
        )
        bundle = export(
            checkpoint,
            out / "completion.bundle",
            kind="generator",
            scores="whole",
            max_prefix_tokens=96,
            max_item_tokens=96,
            overwrite=True,
            on_progress=status.update,
        )
        status.update("typing")
        with Generator.load(bundle, config=EngineConfig(threads=2)) as generator:
            report = measured(generator, endings, typed)
            apart = furthest(generator, checkpoint, endings, typed[:COMPARED])
    if apart > 1e-3:
        sys.exit(f"the bundle's log-probabilities are up to {apart:.1e} off its checkpoint's")
    report |= {"learned_titles": len(learned), "off_checkpoint": apart}
    print_table(console, report)
    report |= {"seconds": time.perf_counter() - begun, "machine": describe_machine()}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"[dim]{out / 'report.json'}; {report['seconds']:.0f} s")


def measured(generator: Generator, endings: Endings, typing: Sequence[Keystrokes]) -> dict[str, Any]:
    """Measures MRR@10 of both orders over the same candidates, and the time of a keystroke."""
    by_frequency, by_model, candidates = list[float](), list[float](), list[int]()
    first, later, among = list[float](), list[float](), 0
    for keys in typing:
        for place, typed in enumerate(keys.typed):
            wanted, found = keys.title[len(typed) :], endings.completions(typed)
            if not found:
                continue
            begun = time.perf_counter()
            ranking = generator.rank(typed, found)
            (later if place else first).append(time.perf_counter() - begun)
            by_frequency.append(reciprocal_rank(found, wanted))
            by_model.append(reciprocal_rank([found[one] for one in ranking.indices.tolist()], wanted))
            candidates.append(len(found))
            among += wanted in found
    return {
        "titles": len(typing),
        "keystrokes": len(candidates),
        "candidates_mean": statistics.mean(candidates),
        "title_among_them": among / len(candidates),
        "mrr10_frequency": statistics.mean(by_frequency),
        "mrr10_model": statistics.mean(by_model),
        "first_keystroke_p50_s": statistics.median(first),
        "next_keystroke_p50_s": statistics.median(later),
    }


def furthest(generator: Generator, checkpoint: Path, endings: Endings, typing: Sequence[Keystrokes]) -> float:
    """Finds the largest difference of a log-probability from that of the checkpoint in transformers."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    apart = 0.0
    for keys in typing:
        typed = keys.typed[0]
        found = endings.completions(typed)
        for rest, score in zip(found, generator.score(typed, found).scores.tolist(), strict=True):
            ids = torch.tensor([[*tokenizer(typed + rest)["input_ids"], tokenizer.eos_token_id]])
            with torch.no_grad():
                logs = torch.log_softmax(model(ids).logits[0, :-1], dim=1)
            chances = logs[np.arange(len(logs)), ids[0, 1:]][len(typed) :]
            apart = max(apart, abs(float(chances.sum()) - score))
    return apart


def print_table(console: Console, report: dict[str, Any]) -> None:
    """Prints quality and latency."""
    table = Table("order", "MRR@10", title=f"{report['keystrokes']} keystrokes of {report['titles']} titles")
    table.add_row("frequency", f"{report['mrr10_frequency']:.3f}")
    table.add_row("language model", f"{report['mrr10_model']:.3f}")
    console.print(table)
    first, later = (1e3 * report[f"{which}_keystroke_p50_s"] for which in ("first", "next"))
    console.print(
        f"{report['candidates_mean']:.0f} candidates a keystroke: p50 {later:.1f} ms behind the last one's KV, "
        f"{first:.1f} ms for the first"
    )


if __name__ == "__main__":
    main()
