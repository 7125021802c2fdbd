"""The demo's table of quality."""

from io import StringIO

from rich.console import Console

from examples.esco.dataset import Dataset
from examples.esco.demo import JUDGED, print_quality


def test_the_table_shows_every_ranker_on_both_splits_with_their_sizes():
    quality = {
        "test": {"minilm": 0.6606, "checkpoint": 0.81},
        "unseen-test": {"minilm": 0.6978, "checkpoint": 0.7},
    }
    assert quality.keys() == JUDGED.keys()
    console = Console(file=StringIO(), width=120)
    print_quality(console, Dataset.load(), quality)
    lines = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "by query (120 queries)" in text
    assert "unseen items (121 queries)" in text
    rows = {words[1]: (words[3], words[5]) for words in lines if len(words) == 7}
    assert rows["minilm"] == ("0.6606", "0.6978")
    assert rows["checkpoint"] == ("0.8100", "0.7000")
    assert "training read none of 485 occupations" in text
