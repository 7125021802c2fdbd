"""Cross-encoder and classifier on the CPU against sentence-transformers and optimum's ONNX, on texts of mixed length.

    python -m benchmarks.reading [--optimum PYTHON] [--rounds 5] [--threads 2] [--out build/bench]

The cross-encoder is the one that `python -m examples.cross_encoder.run` trained, the classifier MiniLM's body with a
drawn head of seven labels; texts are ESCO's, cut to 4 to 120 words. All answer the same texts in turn, and their logits
are compared. `--optimum` is the Python of an environment with `optimum[onnxruntime]`, whose exporter needs another
transformers.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from benchmarks.machine import describe_machine
from examples.cross_encoder.run import OUT as TRAINED
from examples.esco.dataset import Dataset
from examples.esco.minilm import minilm_path
from rankport.exporters.options.tolerance import Tolerance
from rankport.runtime.config import EngineConfig
from rankport.sdk import Classifier, Scorer, export

TEXTS = 192
WORDS = (4, 10, 20, 40, 80, 120)
QUERY = "senior nurse in emergency care"
LABELS = 7
BATCH = 32
KINDS = ("cross-encoder", "classifier")
ROUNDED_HEAD = Tolerance(max_relative_error=0.5, min_kendall_tau=0.9)
GOALS = {"fp32": 1.5, "int8": 2.2, "int8-fine": 2.2}

Answer = Callable[[Sequence[str]], np.ndarray]
"""Computes the logits of texts, of a cross-encoder paired with QUERY. [texts, labels]"""


def main() -> None:
    """Exports what is missing, measures all in turn, prints ratios, writes reading.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--optimum", type=Path, help="Python of an environment with optimum[onnxruntime]")
    parser.add_argument("--kind", choices=KINDS, help="default: both")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="default: %(default)s")
    arguments = parser.parse_args()
    if not (TRAINED / "checkpoint").exists():
        sys.exit("the cross-encoder comes from its example: run `python -m examples.cross_encoder.run` first")
    console = Console()
    disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(arguments.threads)
    texts = mixed_texts()
    report: dict[str, Any] = {"texts": len(texts), "words": list(WORDS), "threads": arguments.threads}
    with tempfile.TemporaryDirectory() as folder:
        classifier = save_classifier(Path(folder) / "classifier")
        for kind in KINDS if arguments.kind is None else (arguments.kind,):
            checkpoint = classifier if kind == "classifier" else TRAINED / "checkpoint"
            with console.status(f"{kind}: exporting and loading") as status, ExitStack() as opened:
                sides = ours(kind, checkpoint, arguments.threads, opened)
                sides |= peers(kind, checkpoint, arguments.optimum, arguments.threads, opened)
                status.update(f"{kind}: measuring")
                report[kind] = measure(sides, texts, arguments.rounds)
            show(console, kind, report[kind])
    report["machine"] = describe_machine()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "reading.json").write_text(json.dumps(report, indent=2) + "\n")


def mixed_texts() -> list[str]:
    """Draws occupations' texts, cut to lengths of all sizes."""
    rng = random.Random(0)
    items = rng.sample(Dataset.load().items, TEXTS)
    return [" ".join(item.text.split()[: rng.choice(WORDS)]) for item in items]


def save_classifier(folder: Path) -> Path:
    """Saves MiniLM's body with a drawn head."""
    torch.manual_seed(0)
    names = {place: f"class {place}" for place in range(LABELS)}
    model = AutoModelForSequenceClassification.from_pretrained(
        minilm_path(),
        local_files_only=True,
        id2label=names,
        label2id={name: at for at, name in names.items()},
    )
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(minilm_path(), local_files_only=True)
    tokenizer.model_max_length = 256
    tokenizer.save_pretrained(folder)
    return folder


def ours(kind: str, checkpoint: Path, threads: int, opened: ExitStack) -> dict[str, Answer]:
    """Exports and loads our bundles."""
    config = EngineConfig(threads=threads)
    sides: dict[str, Answer] = {}
    for precision, recipe in (("fp32", None), ("int8", "int8"), ("int8-fine", "int8-fine")):
        bundle = checkpoint.parent / f"{kind}{'' if recipe is None else f'-{recipe}'}.bundle"
        if not bundle.exists():  # the example leaves those of the cross-encoder
            # A drawn head tells classes apart by next to nothing, so that rounding is large beside it.
            export(checkpoint, bundle, kind=kind, quantize=recipe, tolerance=ROUNDED_HEAD)
        if kind == "cross-encoder":
            scorer = opened.enter_context(Scorer.load(bundle, config=config))
            sides[precision] = lambda texts, scorer=scorer: (
                scorer.score(  # type: ignore[misc]
                    QUERY, texts, truncation="truncate"
                ).logits
            )
        else:
            model = opened.enter_context(Classifier.load(bundle, config=config))
            sides[precision] = lambda texts, model=model: (
                model.classify(  # type: ignore[misc]
                    texts, truncation="truncate"
                ).logits
            )
    return sides


def peers(
    kind: str, checkpoint: Path, optimum: Path | None, threads: int, opened: ExitStack
) -> dict[str, Answer]:
    """Loads the peers, each used as its own documentation shows."""
    sides: dict[str, Answer] = {"sentence-transformers": sentence_transformers_peer(kind, checkpoint)}
    if optimum is not None:
        process = subprocess.Popen(
            [optimum, Path(__file__).with_name("peers") / "optimum_onnx.py", checkpoint, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        opened.callback(process.wait)
        opened.callback(process.terminate)
        assert process.stdout is not None
        if not process.stdout.readline():
            sys.exit("optimum did not start")
        for order in ("in order", "by length"):
            sides[f"optimum ONNX, {order}"] = _asks(process, kind, sorted_=order == "by length")
    return sides


def _asks(process: "subprocess.Popen[str]", kind: str, *, sorted_: bool) -> Answer:
    def ask(texts: Sequence[str]) -> np.ndarray:
        what: dict[str, object] = {"texts": list(texts)}
        if kind == "cross-encoder":
            what = {"pairs": [[QUERY, text] for text in texts]}
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(what | {"sorted": sorted_}) + "\n")
        process.stdin.flush()
        return np.array(json.loads(process.stdout.readline())["logits"], np.float32)

    return ask


def sentence_transformers_peer(kind: str, checkpoint: Path) -> Answer:
    """CrossEncoder.predict over pairs; for single texts, which it does not take, transformers in its batches."""
    if kind == "cross-encoder":
        from sentence_transformers import CrossEncoder

        library = CrossEncoder(str(checkpoint), device="cpu", local_files_only=True)
        return lambda texts: library.predict(
            [(QUERY, text) for text in texts],
            activation_fn=torch.nn.Identity(),
            batch_size=BATCH,
            show_progress_bar=False,
        ).reshape(len(texts), -1)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)

    def classify(texts: Sequence[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        rows: list[Any] = [None] * len(texts)
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH]
                encoded = tokenizer(
                    [texts[place] for place in part], padding=True, truncation=True, return_tensors="pt"
                )
                for place, row in zip(part, model(**encoded).logits.numpy(), strict=True):
                    rows[place] = row
        return np.stack(rows)

    return classify


def measure(sides: Mapping[str, Answer], texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Times all sides in turn, the first round to warm up; compares logits with those of fp32."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    logits = {}
    for round_ in range(rounds + 1):
        for name, answer in sides.items():
            begun = time.perf_counter()
            logits[name] = answer(texts)
            if round_:
                seconds[name].append(time.perf_counter() - begun)
    rates = {name: len(texts) / statistics.median(values) for name, values in seconds.items()}
    fastest = max(rate for name, rate in rates.items() if name not in GOALS)
    return {
        "texts_per_s": rates,
        "spread": {name: max(values) / min(values) for name, values in seconds.items()},
        "against_the_faster_peer": {name: rates[name] / fastest for name in GOALS},
        "max_difference": {
            name: float(np.abs(rows - logits["fp32"]).max())
            for name, rows in logits.items()
            if name != "fp32"
        },
    }


def show(console: Console, kind: str, figures: Mapping[str, Any]) -> None:
    """Prints one kind's table."""
    table = Table(title=f"{kind}, texts of 4 to 120 words", title_justify="left")
    for heading in ("side", "texts/s", "to the faster peer", "max difference of logits"):
        table.add_column(heading)
    for name, rate in figures["texts_per_s"].items():
        ratio, apart = figures["against_the_faster_peer"].get(name), figures["max_difference"].get(name)
        table.add_row(
            name,
            f"{rate:,.0f}",
            "" if ratio is None else f"{ratio:.2f} x (goal {GOALS[name]})",
            "" if apart is None else f"{apart:.1e}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
