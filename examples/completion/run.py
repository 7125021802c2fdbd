"""Completion end to end: train a language model of titles, export, rank candidates. `python -m examples.completion.run`

Words that are typed whole are the prefix, the word under the cursor with what follows it is an item. A keystroke is one
pass over all candidates, behind KV that is kept from the keystroke before. Writes build/completion: checkpoint, bundle
and report.json.
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
from examples.arguments import add_out
from examples.completion.catalogue import Endings, Keystrokes, reciprocal_rank, split, typing, words_of
from examples.esco.dataset import Dataset
from examples.gti.language_model import LanguageModelConfig, train
from rankport.sdk import EngineConfig, Generator, export
from rankport.sdk.cli.output.progress import steps

OUT = Path("build/completion")
TITLES = 300
STEPS = 400
COMPARED = 5
PROMPT = Path(__file__).with_name("complete.toml")


def main() -> None:
    """Trains, exports, measures, prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_out(parser, OUT)
    out: Path = parser.parse_args().out
    disable_progress_bar()
    console, begun = Console(), time.perf_counter()
    learned, others = split(Dataset.load())
    endings, typed = Endings(learned), typing(others, TITLES)
    train(learned, LanguageModelConfig(steps=STEPS), out / "checkpoint")
    with steps(console) as say:
        bundle = export(
            out / "checkpoint",
            out / "completion.bundle",
            kind="generator",
            scores="whole",
            prompt=PROMPT,
            max_prefix_tokens=32,
            max_item_tokens=32,
            overwrite=True,
            on_progress=say,
        )
        say("typing")
        with Generator.load(bundle, config=EngineConfig(threads=2)) as generator:
            report = measured(generator, endings, typed)
            apart = furthest(generator, out / "checkpoint", endings, typed[:COMPARED])
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
            wanted, found = keys.title[len(words_of(typed)) :].strip(), endings.completions(typed)
            if not found:
                continue
            begun = time.perf_counter()
            ranking = generator.rank({"words": words_of(typed)}, found)
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
        words, found = words_of(keys.typed[0]), endings.completions(keys.typed[0])
        begin = len(tokenizer(words, add_special_tokens=False)["input_ids"])
        scores = generator.score({"words": words}, found).scores.tolist()
        for end, score in zip(found, scores, strict=True):
            ids = tokenizer(f"{words} {end}", add_special_tokens=False)["input_ids"]
            row = torch.tensor([[tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]])
            with torch.no_grad():
                logs = torch.log_softmax(model(row).logits[0, :-1], dim=1)
            chances = logs[np.arange(len(logs)), row[0, 1:]][begin:]
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
