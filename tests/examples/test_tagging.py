"""The example of taggers: what it reads, how it counts spans, and under full effort its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from examples.esco.minilm import PACKAGE
from examples.tagging.bio_crf import write_bio_crf
from examples.tagging.dataset import read_skillspan, read_snips, span_f1, spans_of
from rankport.exporters.kinds.tagger.crf_files import read_crf
from rankport.runtime.kinds.tagger.labels import LabelScheme
from support.effort import full_effort_with
from support.reading.taggers import NAMES

FULL = full_effort_with(PACKAGE)


def test_the_sets_are_read_whole() -> None:
    parts = [read_snips("train"), read_snips("test"), read_skillspan("train"), read_skillspan("test")]
    assert [len(part) for part in parts] == [13_287, 695, 4_800, 3_569]
    assert len(parts[0].names) == 79 - sum(
        f"I-{name}" not in parts[0].names for name in kinds(parts[0].names)
    )
    assert parts[2].names == ("O", "B-skill", "I-skill")
    assert all(
        len(words) == len(tags) for part in parts for words, tags in zip(part.words, part.tags, strict=True)
    )


def kinds(names: tuple[str, ...]) -> set[str]:
    return {name[2:] for name in names if name != "O"}


def test_spans_are_counted_exactly() -> None:
    assert spans_of(["B-a", "I-a", "I-b", "O", "I-b"]) == {(0, 2, "a"), (2, 3, "b"), (4, 5, "b")}
    assert span_f1([["B-a", "I-a", "O"]], [["B-a", "O", "O"]]) == 0
    assert span_f1([["B-a", "O", "B-b"], ["O"]], [["B-a", "O", "O"], ["B-b"]]) == 0.5


def test_the_crf_forbids_what_bio_does_not_spell(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text(json.dumps({"id2label": dict(enumerate(NAMES))}))
    folder = write_bio_crf(checkpoint, tmp_path / "crf")
    assert read_crf(folder, LabelScheme.of(NAMES)) is not None
    moves = load_file(folder / "crf.safetensors")["transitions"] < 0
    forbidden = {(NAMES[before], NAMES[after]) for before, after in zip(*moves.nonzero(), strict=True)}
    assert forbidden == {
        (before, after) for after in ("I-city", "I-food") for before in NAMES if before[2:] != after[2:]
    }


@FULL
def test_the_bundles_tag_as_their_checkpoints(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.tagging.run", "--out", str(tmp_path / "tagging")]
    subprocess.run(command, check=True, capture_output=True)
    figures = {
        own["task"]: own for own in json.loads((tmp_path / "tagging" / "report.json").read_text())["figures"]
    }
    slots, constrained, skills = figures.values()
    assert slots["f1_bundle"] >= 0.85
    assert constrained["f1_bundle"] >= 0.85
    assert skills["f1_bundle"] >= 0.2
    for own in (slots, skills):
        assert own["f1_bundle"] == pytest.approx(own["f1_checkpoint"], abs=1e-3)
        assert own["equal_tags"] >= 0.9995
