"""Trains taggers on MiniLM's body, exports them, and shows that the bundles tag as their checkpoints do.

    python -m examples.tagging.run

Slots of requests to a voice assistant (snips), plain and with a CRF that forbids what BIO does not spell, and skills in
job postings (SkillSpan). Writes build/tagging/report.json.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from benchmarks.machine import describe_machine
from examples.arguments import add_out, remove_made
from examples.tagging.bio_crf import write_bio_crf
from examples.tagging.checkpoint_tags import checkpoint_tags
from examples.tagging.dataset import TaggedTexts, read_skillspan, read_snips, span_f1
from examples.tagging.train import Recipe, train_tagger
from rankport.sdk import Client, EngineConfig, Server, ServerConfig, Tagger, export
from rankport.sdk.cli.output.progress import steps

OUT = Path("build/tagging")
SNIPS = Recipe(share=0.5, rate=6e-4)
SKILLS = Recipe(share=1, rate=5e-4)
TEXT = "play 👩‍🎤 Björk on Spotify, then book a table for two in Ghent"


@dataclass(frozen=True, slots=True)
class Figures:
    """Measurements of one bundle."""

    task: str
    texts: int
    labels: int
    f1_checkpoint: float | None  # of exact spans, by transformers' class; None: it has no such decoding
    f1_bundle: float
    equal_tags: float | None  # share of words that both give one tag
    texts_per_s: float
    decoding_share: float  # of the time of a request, that numpy takes from logits to spans


def main() -> None:
    """Reads the arguments and runs it all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_out(parser, OUT)
    run(parser.parse_args().out)


def run(out: Path) -> list[Figures]:
    """Trains, exports and measures; prints a table."""
    begun_s = time.perf_counter()
    disable_progress_bar()
    set_verbosity_error()  # of a head that is not in MiniLM's checkpoint
    with steps(Console()) as say:
        figures = [*_slots(out, say), _skills(out, say)]
    seconds = time.perf_counter() - begun_s
    report = {
        "seconds": seconds,
        "figures": [asdict(own) for own in figures],
        "machine": describe_machine(),
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    _print(figures)
    print(f"{out / 'report.json'}; {seconds:.0f} s")
    return figures


def _slots(out: Path, say: Callable[[str], None]) -> list[Figures]:
    say("snips: training on half of its texts")
    remove_made(out, ("snips", "snips-crf"))
    checkpoint = train_tagger(read_snips("train"), out / "snips", SNIPS)
    test = read_snips("test")
    owner = checkpoint_tags(checkpoint, test.words)
    plain = export(
        checkpoint, out / "snips.bundle", overwrite=True, on_progress=lambda step: say(f"snips: {step}")
    )
    _serve(plain.path)
    with_crf = write_bio_crf(checkpoint, out / "snips-crf")
    constrained = export(
        with_crf,
        out / "snips-crf.bundle",
        overwrite=True,
        on_progress=lambda step: say(f"snips with a CRF: {step}"),
    )
    say("snips: test split")
    return [
        _measured("snips slots", plain.path, test, owner),
        _measured("snips slots, BIO CRF", constrained.path, test, None),
    ]


def _skills(out: Path, say: Callable[[str], None]) -> Figures:
    say("skillspan: training")
    remove_made(out, ("skillspan",))
    checkpoint = train_tagger(read_skillspan("train"), out / "skillspan", SKILLS)
    test = read_skillspan("test")
    owner = checkpoint_tags(checkpoint, test.words)
    bundle = export(
        checkpoint,
        out / "skillspan.bundle",
        overwrite=True,
        on_progress=lambda step: say(f"skillspan: {step}"),
    )
    say("skillspan: test split")
    return _measured("skillspan skills", bundle.path, test, owner)


def _measured(task: str, bundle: Path, test: TaggedTexts, owner: Sequence[Sequence[str]] | None) -> Figures:
    with Tagger.load(bundle) as tagger:
        tagger.tag(test.words[:8])
        begun_s = time.perf_counter()
        result = tagger.tag(test.words, truncation="windows")
        seconds = time.perf_counter() - begun_s
        assert result.words is not None
        tags = [result.words.of(text) for text in range(len(test))]
        usage = result.usage
    spent_s = usage.tokenize_s + usage.queue_s + usage.compute_s
    return Figures(
        task=task,
        texts=len(test),
        labels=len(result.names),
        f1_checkpoint=None if owner is None else span_f1(test.tags, owner),
        f1_bundle=span_f1(test.tags, tags),
        equal_tags=None if owner is None else _equal(tags, owner),
        texts_per_s=len(test) / seconds,
        decoding_share=max(0.0, 1 - spent_s / seconds),
    )


def _equal(tags: Sequence[Sequence[str]], owner: Sequence[Sequence[str]]) -> float:
    """Compares tags; an I that goes on nothing is spelled B in a bundle, and both begin a span."""
    pairs = [
        (own[2:], other[2:])
        for ours, theirs in zip(tags, owner, strict=True)
        for own, other in zip(ours, theirs, strict=True)
    ]
    return float(np.mean([own == other for own, other in pairs]))


def _serve(bundle: Path) -> None:
    """Serves the bundle and tags one text, emoji and all, over gRPC."""
    with (
        Tagger.load(bundle, config=EngineConfig(threads=1)) as tagger,
        Server({"slots": tagger}, ServerConfig(port=0)) as server,
        Client(server.address) as client,
    ):
        for span in client.tag([TEXT]).spans(0):
            print(f"{TEXT[span.start : span.end]!r}: {span.label} ({span.score:.3f})")


def _print(figures: Sequence[Figures]) -> None:
    print(f"\n{'':24}{'span F1':>10}{'checkpoint':>12}{'equal':>8}{'texts/s':>10}{'numpy':>8}")
    for own in figures:
        owner = "" if own.f1_checkpoint is None else f"{own.f1_checkpoint:.4f}"
        equal = "" if own.equal_tags is None else f"{own.equal_tags:.4f}"
        print(
            f"{own.task:24}{own.f1_bundle:>10.4f}{owner:>12}{equal:>8}{own.texts_per_s:>10.0f}"
            f"{own.decoding_share:>8.1%}"
        )


if __name__ == "__main__":
    main()
