"""Grounded against mean initialization of semantic-ID tokens: table, pages and build/bench/grounding.json.

    python -m benchmarks.grounding [--epochs 4] [--ablation] [--out build/bench]

Real text: ESCO occupations. A small LM of job titles is trained (once, kept in --out), the occupations get semantic ids
by residual k-means over MiniLM vectors (4 levels of 64 codes), and the LM's vocabulary is extended by their 256 tokens
in several ways. Each is audited against the codebook, and measured by the log-likelihood of the ids of occupations held
out from grounding, given their titles.
"""

import argparse
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.status import Status
from rich.table import Table

from benchmarks.machine import describe_machine
from examples.esco.dataset import Dataset
from examples.esco.minilm import MiniLM
from examples.gti.language_model import LanguageModelConfig, texts_of, train
from examples.gti.semantic_ids import SemanticIds, quantize
from rankport.exporters.vocabulary.audit import audit_tokens
from rankport.exporters.vocabulary.grounding.ground import ground
from rankport.exporters.vocabulary.grounding.options import GroundingOptions

LEVELS, CODES = 4, 64
TITLES = 2  # of an item: its own and alternatives


@dataclass(frozen=True, slots=True)
class Way:
    """One way to fill new rows."""

    name: str
    init: str
    trained: bool


WAYS = (
    Way("mean initialization", "mean", False),
    Way("random initialization", "random", False),
    Way("grounded start, untrained", "grounded", False),
    Way("grounded", "grounded", True),
)
ABLATION = (Way("mean start, trained", "mean", True), Way("random start, trained", "random", True))


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files that every way shares."""

    model: Path
    pairs: Path
    tokens: Path
    codebook: Path


def prepare(out: Path, config: LanguageModelConfig) -> tuple[Inputs, dict[str, Any]]:
    """Makes what is not there yet: LM, ids, pairs."""
    dataset = Dataset.load()
    inputs = Inputs(out / "lm", out / "pairs.jsonl", out / "tokens.txt", out / "codebook.npy")
    facts: dict[str, Any] = {"language_model": asdict(config)}
    made = out / "lm.json"
    if not made.is_file():
        start = time.perf_counter()
        cross_entropy = train(texts_of(dataset), config, inputs.model)
        figures = {"held_out_cross_entropy": cross_entropy, "seconds": time.perf_counter() - start}
        made.write_text(json.dumps(figures))
    facts |= json.loads(made.read_text())
    if not inputs.codebook.is_file():
        vectors = MiniLM.load().encode([f"{item.title}. {item.description[:120]}" for item in dataset.items])
        _write_pairs(inputs, dataset, quantize(vectors, LEVELS, CODES, seed=0))
    return inputs, facts


def _tell(status: Status, name: str, step: str) -> None:
    status.update(f"{name}: {step}")


def _write_pairs(inputs: Inputs, dataset: Dataset, ids: SemanticIds) -> None:
    phrases: defaultdict[str, list[str]] = defaultdict(list)
    for phrase in dataset.phrases:
        for item_id in phrase.item_ids:
            phrases[item_id].append(phrase.text)
    with inputs.pairs.open("w", encoding="utf-8") as file:
        for row, item in enumerate(dataset.items):
            for text in dict.fromkeys([item.title, *phrases[item.id]][:TITLES]):
                file.write(json.dumps({"text": text, "tokens": ids.of(row)}) + "\n")
    inputs.tokens.write_text("\n".join(ids.tokens) + "\n", encoding="utf-8")
    np.save(inputs.codebook, ids.codebook)


def measure(
    way: Way, inputs: Inputs, options: GroundingOptions, out: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Fills the rows one way, audits them, and returns the figures."""
    folder = out / way.name.replace(",", "").replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    done = ground(inputs.model, inputs.pairs, folder, add=inputs.tokens, options=options, on_progress=say)
    seconds = time.perf_counter() - start
    audit = audit_tokens(folder, codebook=inputs.codebook)
    (table,) = audit.tables
    assert table.rsa is not None
    assert table.rsa.within_levels is not None
    likelihood = done.figures["held_out_log_likelihood"]
    return {
        "way": way.name,
        "seconds": seconds,
        "effective_rank": table.new_spectrum.effective_rank,
        "effective_rank_share": table.effective_rank_ratio,
        "mean_cosine": table.new_new.mean,
        "rsa_pearson": table.rsa.within_levels.pearson,
        "rsa_spearman": table.rsa.within_levels.spearman,
        "rsa_all_pairs_spearman": table.rsa.all_pairs.spearman,
        "text_to_tokens": likelihood["text_to_tokens"]["after"],
        "tokens_to_text": likelihood["tokens_to_text"]["after"],
        "epochs": done.figures["epochs"],
        "pairs": done.figures["pairs"],
        "pretrained_effective_rank": table.old_spectrum.effective_rank,
        "pretrained_mean_cosine": table.old_old.mean,
        "passed": audit.passed,
        "failures": list(audit.failures),
    }


def show(console: Console, rows: list[dict[str, Any]]) -> None:
    """The table of the documentation."""
    table = Table(title="New rows, and held-out log-likelihood in nats a token", title_justify="left")
    table.add_column("", no_wrap=True)
    for heading in ("effective rank", "cosine", "RSA ρ", "text→ids", "ids→text", "audit", "s"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["way"],
            f"{row['effective_rank']:.1f} ({row['effective_rank_share']:.2f})",
            f"{row['mean_cosine']:.2f}",
            f"{row['rsa_spearman']:.2f}",
            f"{row['text_to_tokens']:.2f}",
            f"{row['tokens_to_text']:.2f}",
            "pass" if row["passed"] else "FAIL",
            f"{row['seconds']:.0f}",
        )
    console.print(table)


def main() -> None:
    """Prepares, measures every way, shows and writes the figures."""
    parser = argparse.ArgumentParser(description="Grounded against mean initialization.")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--ablation", action="store_true", help="also train from mean and from random rows")
    parser.add_argument("--lm-steps", type=int, default=LanguageModelConfig().steps)
    given = parser.parse_args()
    work = given.out / "grounding"
    work.mkdir(parents=True, exist_ok=True)
    console = Console(width=110)
    inputs, facts = prepare(work, LanguageModelConfig(steps=given.lm_steps))
    rows = []
    with console.status("") as status:
        for way in (*WAYS, *(ABLATION if given.ablation else ())):
            options = GroundingOptions(
                init=way.init,
                epochs=given.epochs if way.trained else 0,
                batch_size=64,
            )
            rows.append(measure(way, inputs, options, work, partial(_tell, status, way.name)))
    show(console, rows)
    report = {"machine": describe_machine(), **facts, "levels": LEVELS, "codes": CODES, "ways": rows}
    (given.out / "grounding.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
