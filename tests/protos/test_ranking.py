"""A ranking: best first, ties in the request's order, what has no score last; and results as tables."""

import builtins
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, MissingExtra
from rankport.protos.ranking import Ranking, Ranks
from rankport.protos.scores import label_scores
from rankport.protos.types import Item, ItemStatus, Key, ScoreResult, Usage

NAN = float("nan")
ITEMS: list[Item] = ["cook", Key("gone"), [1, 2, 3], "chef", np.zeros((2, 4), np.float32)]
SCORES = [0.5, NAN, 0.75, 0.5, 0.25]
COLUMNS = ["rank", "index", "item", "score", "status", "message"]


def result(scores: list[float]) -> ScoreResult:
    """A result of two labels, where an item without a score was not found."""
    array = np.array(scores, np.float32)
    lacking = np.isnan(array)
    return ScoreResult(
        scores=array,
        logits=np.stack([array, -array], axis=1),
        status=tuple(ItemStatus.NOT_FOUND if gone else ItemStatus.OK for gone in lacking),
        messages=tuple("no such key" if gone else "" for gone in lacking),
        usage=Usage(1, 2, 3, 0.1, 0.2, 0.3),
        fingerprint="f" * 64,
        score_kind="logit",
        read_out="logit of yes",
    )


class FixedScores(Ranks):
    """Scores that stand fixed; remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def score(
        self, prefix: Any, items: Iterable[Item], timeout_s: float | None = None, **options: Any
    ) -> ScoreResult:
        self.asked.append((prefix, list(items), timeout_s, options))
        return result(SCORES)


@pytest.mark.parametrize(
    ("read_out", "logits", "order"),
    [
        (
            "softmax over yes, no: yes",
            [[40, 0], [NAN, NAN], [60, 0], [60, -1], [60, 0], [0, 0]],
            [3, 2, 4, 0, 5, 1],
        ),
        ("sigmoid of yes", [[40], [NAN], [60], [61], [60], [0]], [3, 2, 4, 0, 5, 1]),
        # Two labels that exclude each other, of which one is sure; and two that do not.
        ("softmax over no, yes: yes", [[0, 30], [0, 20], [9, 40]], [2, 0, 1]),
        ("sigmoid of yes", [[30, 0], [40, 39], [20, 0]], [1, 0, 2]),
        # No label's logits give these scores.
        ("sigmoid of yes", [[0.5], [0.7]], [0, 1]),
        # One label that excludes others is sure of everything.
        ("softmax over yes: yes", [[5], [9]], [0, 1]),
    ],
)
def test_probabilities_that_float32_rounds_to_one_are_in_the_order_of_their_logits(
    read_out: str, logits: list[list[float]], order: list[int]
) -> None:
    array = np.array(logits, np.float32)
    scores = np.where(np.isnan(array[:, 0]), NAN, np.where(array.max(axis=1) == 0, 0.5, 1)).astype(np.float32)
    given = replace(result([0.0]), scores=scores, logits=array, score_kind="probability", read_out=read_out)
    given = replace(given, status=(ItemStatus.OK,) * len(scores), messages=("",) * len(scores))
    assert Ranking.of(given).indices.tolist() == order


def test_scores_of_a_server_whose_processor_rounds_otherwise_are_those_of_their_logits_too() -> None:
    logits = np.array([[2, 1.9], [40, 30], [60, 50], [-3, -4]], np.float32)
    scores = np.nextafter(label_scores(logits, 0, "sigmoid"), np.float32([0, 1, 1, 1]))
    given = replace(
        result(scores.tolist()), logits=logits, score_kind="probability", read_out="sigmoid of yes"
    )
    assert Ranking.of(given).indices.tolist() == [2, 1, 0, 3]


def test_the_best_come_first_ties_as_given_and_items_without_a_score_last() -> None:
    ranking = Ranking.of(result(SCORES), ITEMS)
    assert ranking.indices.tolist() == [2, 0, 3, 4, 1]
    assert ranking.ranks == (1, 2, 3, 4, None)
    assert ranking.items == tuple(ITEMS[place] for place in (2, 0, 3, 4, 1))
    np.testing.assert_array_equal(ranking.scores, np.array([0.75, 0.5, 0.5, 0.25, NAN], np.float32))
    np.testing.assert_array_equal(ranking.logits[:, 1], -ranking.scores)
    assert (ranking.status[-1], ranking.messages[-1]) == (ItemStatus.NOT_FOUND, "no such key")
    assert (ranking.score_kind, ranking.read_out, ranking.usage.item_tokens) == ("logit", "logit of yes", 3)


def test_how_many_items_a_server_under_pressure_scored_is_told_of_the_first_few_too() -> None:
    assert Ranking.of(result(SCORES), top_k=2).depth is None
    assert Ranking.of(replace(result(SCORES), depth=3), top_k=2).depth == 3


def test_rank_hands_all_on_to_score_and_keeps_the_first_few() -> None:
    scores = FixedScores()
    ranking = scores.rank("q", iter(ITEMS), 2, True, 1.5, truncation="truncate", on_missing="fail")
    options = {"truncation": "truncate", "on_missing": "fail"}
    assert scores.asked == [("q", ITEMS, 1.5, options)]
    assert (ranking.indices.tolist(), ranking.items) == ([2, 0], (ITEMS[2], ITEMS[0]))
    assert len(scores.rank("q", ITEMS, top_k=np.int64(9))) == len(scores.rank("q", ITEMS, top_k=2**70)) == 5
    assert scores.rank("q", ITEMS).items is None


@pytest.mark.parametrize("top_k", [0, -1, 1.5, True, "3"])
def test_a_top_k_that_is_no_count_is_refused_before_anything_is_scored(top_k: Any) -> None:
    scores = FixedScores()
    with pytest.raises(InvalidRequest, match=r"top_k is .*: it must be 1 or more items"):
        scores.rank("q", ITEMS, top_k)
    assert scores.asked == []


def test_a_ranking_is_a_pandas_table() -> None:
    table = Ranking.of(result(SCORES), ITEMS).to_pandas()
    assert list(table.columns) == COLUMNS
    assert table["rank"].tolist()[:4] == [1, 2, 3, 4]
    assert table["rank"].isna().tolist() == [False] * 4 + [True]
    assert table["item"].tolist() == ["3 token ids", "cook", "chef", "2x4 embeddings", "gone"]
    assert (str(table["rank"].dtype), str(table["score"].dtype)) == ("Int64", "float32")
    assert table["status"].tolist() == ["ok"] * 4 + ["not_found"]


def test_a_ranking_is_an_arrow_table_whose_missing_values_are_null() -> None:
    table = Ranking.of(result(SCORES), ITEMS).to_arrow()
    assert table.column_names == COLUMNS
    assert table["rank"].to_pylist() == [1, 2, 3, 4, None]
    assert table["score"].to_pylist() == [0.75, 0.5, 0.5, 0.25, None]
    assert Ranking.of(result(SCORES)).to_arrow().column_names == [name for name in COLUMNS if name != "item"]


def test_a_result_is_a_table_in_the_order_of_its_items() -> None:
    frame, table = result(SCORES).to_pandas(), result(SCORES).to_arrow()
    assert list(frame.columns) == table.column_names == ["index", "score", "logits", "status", "message"]
    assert frame["index"].tolist() == table["index"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["logits"].to_pylist()[2] == list(frame["logits"][2]) == [0.75, -0.75]
    assert frame["message"].tolist() == table["message"].to_pylist() == ["", "no such key", "", "", ""]


def test_a_table_of_no_items_has_its_columns_and_their_types() -> None:
    ranking = Ranking.of(result([]), [])
    full = Ranking.of(result(SCORES), ITEMS)
    assert ranking.to_arrow().schema == full.to_arrow().schema
    assert ranking.to_pandas().dtypes.to_dict() == full.to_pandas().dtypes.to_dict()


def test_results_of_many_items_show_few_of_them() -> None:
    shown = repr(result([0.5, NAN, *np.linspace(0, 1, 2000).tolist()]))
    # Of a newer numpy its shape comes behind it.
    assert "array([0.5 , nan, 0. , ..., 0.9989995 , 0.99949974, 1. ]," in shown
    assert "status=(<ItemStatus.OK: 'ok'> × 2001, <ItemStatus.NOT_FOUND: 'not_found'> × 1)" in shown
    assert "messages=('' × 2001, 'no such key' × 1)" in shown
    assert len(shown) < 1000
    ranked = repr(Ranking.of(result([0.5] * 9), [f"item {place}" for place in range(9)]))
    assert "items=('item 0', 'item 1', 'item 2', … 9 in all)" in ranked
    assert repr(Ranking.of(result(SCORES), ITEMS)).count("Key(id='gone', text=None)") == 1


@pytest.mark.parametrize(("method", "library"), [("to_pandas", "pandas"), ("to_arrow", "pyarrow")])
def test_a_library_that_is_not_there_is_named_with_its_extra(
    method: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> object:
        if name == library:
            raise ModuleNotFoundError(name=name)
        return builtins.__import__(name)

    monkeypatch.setattr("rankport.protos.tables.import_module", without)
    told = rf'{method}\(\) needs {library}, which is not installed: pip install "rankport\[tables\]"'
    with pytest.raises(MissingExtra, match=told):
        getattr(result(SCORES), method)()
