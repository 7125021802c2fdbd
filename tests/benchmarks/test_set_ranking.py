"""The benchmark of rankers of sets says of each goal whether it is reached."""

import json
from pathlib import Path

import pytest

from benchmarks.set_ranking import GROWTH, KEPT, LEAST, SHARE, judged, verdicts

FIGURES = Path(__file__).parents[2] / "benchmarks" / "set-ranking-cpu.json"
SECONDS = {
    "1 candidates": 1.0,
    "250 candidates": 25.0,
    "500 candidates": 50.0,
    "1000 candidates": 100.0,
    "history read anew, 1 candidates": 6.0,
    "history read anew, 500 candidates": 60.0,
    "ceiling": 40.0,
}


def test_every_goal_is_reached_by_what_is_fast_and_linear() -> None:
    assert judged("independent", SECONDS)["reached"] == {SHARE: True, KEPT: True, GROWTH: True}


@pytest.mark.parametrize(
    ("slower", "missed"),
    [
        ({"ceiling": 34.0}, SHARE),
        ({"history read anew, 1 candidates": 4.9}, KEPT),
        ({"1000 candidates": 111.0}, GROWTH),
    ],
    ids=["share", "kept", "growth"],
)
def test_a_goal_that_is_missed_is_told(slower: dict[str, float], missed: str) -> None:
    figures = judged("independent", SECONDS | slower)
    assert [name for name, reached in figures["reached"].items() if not reached] == [missed]
    assert [line for line in verdicts("independent", figures) if line.endswith("MISSED")] == [
        line for line in verdicts("independent", figures) if missed in line
    ]


def test_candidates_that_see_each_other_may_take_longer_than_their_count() -> None:
    apart, together = (judged(policy, SECONDS)[GROWTH] for policy in ("independent", "set-wise"))
    assert apart == pytest.approx(1)
    assert together < 0.9


@pytest.mark.parametrize("policy", ["independent", "set-wise"])
def test_the_published_figures_are_those_of_their_seconds(policy: str) -> None:
    figures = json.loads(FIGURES.read_text())[policy]
    assert figures == judged(policy, figures["seconds"])
    assert figures[SHARE] >= LEAST[SHARE]
