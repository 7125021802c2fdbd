"""`ListRanker` of items that are read alone: all are compared with the prompt of the first, whatever follows them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.protos.types import ItemStatus, Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.list_ranker.list_ranker import ListRanker

CONFIG = EngineConfig(threads=1)
ITEMS = ["hospital nurse", "welder", "software engineer", "teacher", "baker", "pilot"]


@pytest.fixture(scope="module")
def ranker(alone_bundle: Bundle) -> Iterator[ListRanker]:
    with ListRanker.load(alone_bundle, config=CONFIG) as loaded:
        yield loaded


def test_items_behind_the_prompt_change_no_score_of_those_inside(ranker: ListRanker) -> None:
    """Four are inside; those behind are compared with the same prompt, in any order."""
    whole = ranker.score("nurse", ITEMS).scores
    np.testing.assert_allclose(whole[:4], ranker.score("nurse", ITEMS[:4]).scores, atol=1e-6)
    turned = ranker.score("nurse", [*ITEMS[:4], ITEMS[5], ITEMS[4]]).scores
    np.testing.assert_allclose(turned[[0, 1, 2, 3, 5, 4]], whole, atol=1e-6)
    assert np.abs(ranker.score("nurse", ITEMS[::-1]).scores[::-1] - whole).max() > 1e-3


def test_requests_that_share_passes_get_their_own_rows(ranker: ListRanker) -> None:
    lists = [ITEMS[: 1 + place % 6] for place in range(12)]
    alone = [ranker.score("nurse", items).scores for items in lists]
    together = [future.result(10).scores for future in [ranker.submit("nurse", items) for items in lists]]
    for own, shared in zip(alone, together, strict=True):
        np.testing.assert_allclose(shared, own, atol=1e-6)


def test_an_empty_item_is_in_no_prompt(ranker: ListRanker) -> None:
    result = ranker.score("nurse", ["welder", " ", "baker"])
    assert result.status == (ItemStatus.OK, ItemStatus.FAILED, ItemStatus.OK)
    np.testing.assert_array_equal(result.scores[[0, 2]], ranker.score("nurse", ["welder", "baker"]).scores)
    assert ranker.score("nurse", [""]).status == (ItemStatus.FAILED,)
    assert len(ranker.score("nurse", []).scores) == 0


def test_a_long_item_is_refused_or_cut_in_both_reads(ranker: ListRanker) -> None:
    long = "welder teacher baker " * 20
    with pytest.raises(LimitExceeded, match=r"item 1: \d+ tokens, max_item_tokens is 40"):
        ranker.score("nurse", ["baker", long])
    result = ranker.score("nurse", ["baker", long], truncation="truncate")
    assert result.status == (ItemStatus.OK, ItemStatus.TRUNCATED)


def test_what_has_no_text_is_refused(ranker: ListRanker, alone_bundle: Bundle, tmp_path: Path) -> None:
    assert ranker.describe().item_forms == ("text", "token_ids")
    with pytest.raises(InvalidRequest, match="item 0: the bundle takes no embedding tokens"):
        ranker.score("nurse", [np.zeros((1, 24), np.float32)])
    with pytest.raises(InvalidRequest, match="item 0 is the key 'a'"):
        ranker.score("nurse", [Key("a")])
    with pytest.raises(InvalidRequest, match="takes texts alone, no embedding tokens: leave the store out"):
        ListRanker.load(alone_bundle, store=tmp_path / "store", config=CONFIG)
