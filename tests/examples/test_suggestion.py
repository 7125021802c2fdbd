"""The example of suggestion: its pairs, its measure, and under full effort its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from examples.esco.dataset import variant_key
from examples.suggestion.bleu import bleu
from examples.suggestion.dataset import title_pairs
from examples.suggestion.training import END, tokenizer_of
from support.effort import FACTOR

FULL = pytest.mark.skipif(FACTOR == 1, reason="minutes: make test-full")


def test_no_test_title_is_read_in_training() -> None:
    train, test = title_pairs()
    assert (len(train.titles), len(test.titles)) == (25_120, 1_038)
    assert {variant_key(title) for title in test.titles}.isdisjoint(map(variant_key, train.titles))
    assert all(title != label for title, label in zip(test.titles, test.labels, strict=True))


def test_bleu_is_that_of_the_paper() -> None:
    text, reference = "the cat sat on the mat", "the cat sat on a mat"
    # Runs that are shared of those that are there: 5 of 6, 3 of 5, 2 of 4, 1 of 3.
    assert bleu([text], [reference]) == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    assert bleu(["a b c d"], ["a b c d e f"]) == pytest.approx(2.718281828 ** (1 - 6 / 4))  # too short
    assert bleu([text], [text]) == 1.0
    assert bleu(["a b"], ["a b"]) == 0.0  # no run of four


def test_titles_end_in_the_end_token_and_come_back_as_they_were() -> None:
    train, _ = title_pairs()
    tokenizer = tokenizer_of(train, 400)
    ids = tokenizer("motor vehicle engine tester").input_ids
    assert tokenizer.convert_ids_to_tokens(ids)[-1] == END
    assert tokenizer.decode(ids, skip_special_tokens=True) == "motor vehicle engine tester"


@FULL
def test_the_bundle_suggests_as_its_checkpoint(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "examples.suggestion.run", "--out", str(tmp_path)], check=True)
    report = json.loads((tmp_path / "report.json").read_text())
    for way in ("greedy", "beams"):
        assert report[way]["otherwise_than_checkpoint"] <= 2
        assert report[way]["bundle"]["exact"] > 0.25
        assert report[way]["bundle"]["bleu"] == pytest.approx(report[way]["checkpoint"]["bleu"], abs=2e-3)
    assert report["beams"]["among_4"] > report["greedy"]["bundle"]["exact"]
