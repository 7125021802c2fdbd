"""LANTERN end to end: a fit classifier and a small explainer behind one server. `python -m examples.lantern.run`

The classifier is that of `examples.fit`, trained first where it is missing. The explainer is a decoder that learns from
a template teacher, and is given the classifier's label; its text is streamed. Thirty requests of fit come with each of
an explanation, all at once. Writes build/lantern: checkpoint, bundle and report.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from benchmarks.machine import describe_machine
from examples.arguments import add_out
from examples.esco.dataset import Dataset
from examples.fit.dataset import FitPairs, fit_pairs
from examples.fit.run import OUT as FIT
from examples.gti.language_model import LanguageModelConfig, train
from examples.lantern.teacher import label_told, lessons
from rankport.protos.generation import Sampling
from rankport.runtime.kinds.capabilities import Model
from rankport.runtime.kinds.table import kind_of, open_bundle
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from rankport.sdk import Client, EngineConfig, export
from rankport.sdk.cli.output.progress import steps

OUT = Path("build/lantern")
PROMPT = Path(__file__).with_name("explain.toml")
EXPLAINED = 200
RATIO = 30  # requests of fit to one of an explanation
CALLERS = 4
GREEDY = Sampling(max_tokens=40, temperature=0.0)


def main() -> None:
    """Trains what is missing, exports, serves, measures, prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_out(parser, OUT)
    out: Path = parser.parse_args().out
    disable_progress_bar()
    console, begun = Console(), time.perf_counter()
    if not (FIT / "fit.bundle").exists():
        subprocess.run([sys.executable, "-m", "examples.fit.run"], check=True)
    dataset = Dataset.load()
    train(lessons(dataset), LanguageModelConfig(steps=400), out / "checkpoint")
    with steps(console) as say:
        bundle = export(
            out / "checkpoint",
            out / "explainer.bundle",
            kind="generator",
            prompt=PROMPT,
            max_item_tokens=40,
            overwrite=True,
            on_progress=lambda step: say(f"exporting: {step}"),
        )
    one = EngineConfig(threads=1)
    with ExitStack() as opened:
        models = dict[str, Model]()
        for name, opening in (("fit", open_bundle(FIT / "fit.bundle")), ("explainer", bundle)):
            models[name] = kind_of(opening).load(opening, one, None)
            opened.callback(models[name].close)
        server = opened.enter_context(Server(models, ServerConfig(port=0)))
        report = measured(server.address, fit_pairs(dataset, "test"))
    print_table(console, report)
    report |= {"seconds": time.perf_counter() - begun, "machine": describe_machine()}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"[dim]{out / 'report.json'}; {report['seconds']:.0f} s")


def measured(address: str, pairs: FitPairs) -> dict[str, Any]:
    """Asks for fit and explanations at once, and times each as its caller sees it."""
    cases, times = pairs.pairs[:EXPLAINED], _Times()
    with Client(address, model="fit") as fit, Client(address, model="explainer") as explain:
        agree, examples = 0, list[dict[str, str]]()
        with ThreadPoolExecutor(CALLERS) as callers:
            for case, (label, text) in zip(
                cases,
                callers.map(lambda case: _served(fit, explain, case, pairs.pairs, times), cases),
                strict=True,
            ):
                agree += label_told(text) == label
                examples.append({"job": case[0], "candidate": case[1], "fit": label, "explanation": text})
    return {
        "explanations": len(cases),
        "fit_requests": len(times.fit),
        "agreement": agree / len(cases),
        "fit_s": _spread(times.fit),
        "first_part_s": _spread(times.first),
        "explanation_s": _spread(times.whole),
        "examples": examples[:5],
    }


class _Times:
    """Seconds of requests, by what was asked."""

    def __init__(self) -> None:
        self.fit: list[float] = []
        self.first: list[float] = []
        self.whole: list[float] = []


def _served(
    fit: Client, explain: Client, case: tuple[str, str], others: Sequence[tuple[str, str]], times: _Times
) -> tuple[str, str]:
    """Classifies a pair and others while its explanation is streamed. Returns label and explanation."""
    label = _fit(fit, case, times)
    text = list[str]()

    def stream() -> None:
        begun = time.perf_counter()
        fields = {"job": case[0], "candidate": case[1], "fit": label}
        with explain.stream(fields, GREEDY, truncation="truncate") as parts:
            for part in parts:
                if not text:
                    times.first.append(time.perf_counter() - begun)
                text.append(part.text)
        times.whole.append(time.perf_counter() - begun)

    reader = threading.Thread(target=stream)
    reader.start()
    for other in others[: RATIO - 1]:
        _fit(fit, other, times)
    reader.join()
    return label, "".join(text)


def _fit(fit: Client, pair: tuple[str, str], times: _Times) -> str:
    begun = time.perf_counter()
    label = fit.classify([pair], truncation="truncate").best[0]
    times.fit.append(time.perf_counter() - begun)
    return label


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    return {"p50": statistics.median(seconds), "p99": sorted(seconds)[int(0.99 * len(seconds))]}


def print_table(console: Console, report: Mapping[str, Any]) -> None:
    """Prints agreement, latencies, and some explanations."""
    table = Table(
        "", "requests", "p50 ms", "p99 ms", title="Fit and explanations at once", title_justify="left"
    )
    for name, count, key in (
        ("fit", report["fit_requests"], "fit_s"),
        ("first part of an explanation", report["explanations"], "first_part_s"),
        ("explanation", report["explanations"], "explanation_s"),
    ):
        table.add_row(name, str(count), *(f"{1e3 * report[key][part]:.1f}" for part in ("p50", "p99")))
    console.print(table)
    console.print(f"explanations that tell the classifier's label: {report['agreement']:.1%}")
    for example in report["examples"]:
        console.print(
            f"  {example['job']} / {example['candidate']}: {example['explanation']}", highlight=False
        )


if __name__ == "__main__":
    main()
