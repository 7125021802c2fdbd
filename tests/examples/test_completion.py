"""The example of completion: what is typed, what may follow, and under full effort that a model ranks it better."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from examples.completion.catalogue import Endings, reciprocal_rank, split, typing, words_of
from examples.esco.dataset import Dataset
from support.effort import FACTOR

FULL = pytest.mark.skipif(FACTOR == 1, reason="minutes: make test-full")


def test_what_is_typed_is_not_learned() -> None:
    learned, others = split(Dataset.load())
    assert len(learned) > 4 * len(others) - 5 > 15_000
    assert set(learned).isdisjoint(others)
    for keys in typing(others, 50):
        words = keys.title.split(" ")
        assert keys.typed == tuple(f"{words[0]} {words[1][:step]}" for step in (1, 2, 3))


def test_completions_are_ends_of_known_titles_by_frequency() -> None:
    endings = Endings(["night nurse", "school nurse", "nurse assistant", "nut grower", "nun"])
    assert endings.completions("senior nu") == ["nurse", "nun", "nut grower", "nurse assistant"]
    assert endings.completions("senior nu", most=1) == ["nurse"]
    assert endings.completions("nun") == []
    assert words_of("senior ward nu") == "senior ward"
    assert reciprocal_rank(["a", "b"], "b") == 0.5
    assert reciprocal_rank(["a", "b"], "b", most=1) == 0


@FULL
def test_a_language_model_ranks_better_than_frequency(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "examples.completion.run", "--out", str(tmp_path)], check=True)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["mrr10_model"] > report["mrr10_frequency"] + 0.02
    assert report["off_checkpoint"] <= 1e-3
