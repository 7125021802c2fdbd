"""The example of completion: what is typed, what may follow, and what a model of characters is trained on."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from examples.completion.catalogue import MOST, Catalogue, reciprocal_rank, split
from examples.completion.training import character_tokenizer
from examples.esco.dataset import Dataset
from support.effort import FACTOR

FULL = pytest.mark.skipif(FACTOR == 1, reason="minutes: make test-full")


def test_what_is_learned_is_not_what_is_completed() -> None:
    learned, catalogue = split(Dataset.load())
    assert len(learned) > len(catalogue) > 9_000
    assert not [title for title in learned[:500] if catalogue.starting_with(title[:-1]).count(title)]
    for keys in catalogue.drawn(20, seed=3):
        assert all(keys.title.startswith(typed) for typed in keys.typed)
        assert all(2 <= len(catalogue.starting_with(typed)) <= MOST for typed in keys.typed)
        assert [len(typed) for typed in keys.typed] == [
            len(keys.typed[0]) + place for place in range(len(keys.typed))
        ]


def test_candidates_come_in_the_order_of_frequency() -> None:
    counts = Counter({"nurse": 1, "nurse aid": 1, "nurse assistant": 3, "nurses": 1, "welder": 9})
    assert Catalogue(counts).starting_with("nurse") == ["nurse assistant", "nurses", "nurse aid"]
    assert reciprocal_rank(["a", "b"], "b") == 0.5
    assert reciprocal_rank(["a", "b"], "b", most=1) == 0


def test_tokens_are_characters_behind_a_beginning() -> None:
    tokenizer = character_tokenizer(["ab c"])
    assert tokenizer.encode("a b").tokens == ["<s>", "a", " ", "b"]
    assert tokenizer.decode(tokenizer.encode("ab c").ids) == "ab c"


@FULL
def test_a_language_model_ranks_better_than_frequency(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "examples.completion.run", "--out", str(tmp_path)], check=True)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["mrr10_model"] > report["mrr10_frequency"] + 0.02
    assert report["off_checkpoint"] <= 1e-3
