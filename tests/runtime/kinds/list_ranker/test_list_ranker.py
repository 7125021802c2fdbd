"""`ListRanker`: a list in an order, in process: what it answers, of what it depends, and what it refuses."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, LimitExceeded, NotFound, Unavailable
from rankport.protos.types import ItemStatus, Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import Device, EngineConfig
from rankport.runtime.kinds.list_ranker.list_ranker import ListRanker
from rankport.runtime.kinds.scorer import Scorer
from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from support.lists.drafts import ITEM

CONFIG = EngineConfig(threads=1)
ITEMS = ["hospital nurse", "welder", "software engineer", "teacher", "baker", "pilot"]


@pytest.fixture(scope="module")
def ranker(list_bundle: Bundle) -> Iterator[ListRanker]:
    with ListRanker.load(list_bundle, config=CONFIG) as loaded:
        yield loaded


def test_a_list_is_scored_together_in_its_order(ranker: ListRanker) -> None:
    result = ranker.score("nurse", ITEMS[:4])
    assert result.score_kind == "cosine"
    assert result.read_out == "cosine of query and item"
    assert set(result.status) == {ItemStatus.OK}
    np.testing.assert_array_equal(result.scores, result.logits[:, 0])
    assert (np.abs(result.scores) <= 1).all()
    turned = ranker.score("nurse", ITEMS[:4][::-1]).scores[::-1]
    alone = np.concatenate([ranker.score("nurse", [item]).scores for item in ITEMS[:4]])
    assert np.abs(turned - result.scores).max() > 1e-3
    assert np.abs(alone - result.scores).max() > 1e-3


def test_blocks_are_scored_each_by_itself_as_the_bundle_says(ranker: ListRanker) -> None:
    whole = ranker.score("nurse", ITEMS).scores
    parts = [ranker.score("nurse", ITEMS[:4]).scores, ranker.score("nurse", ITEMS[4:]).scores]
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-6)


def test_requests_that_share_passes_get_their_own_rows(ranker: ListRanker) -> None:
    lists = [ITEMS[: 1 + place % 6] for place in range(12)]
    alone = [ranker.score("nurse", items).scores for items in lists]
    together = [future.result(10).scores for future in [ranker.submit("nurse", items) for items in lists]]
    for own, shared in zip(alone, together, strict=True):
        np.testing.assert_allclose(shared, own, atol=1e-6)


def test_what_it_can_is_said(ranker: ListRanker) -> None:
    described = ranker.describe()
    assert ranker.capabilities == {"scores"}  # nothing is scored apart
    assert (described.kind, described.prompt_fields) == ("list-ranker", ("query",))
    assert described.item_forms == ("text", "token_ids", "embeddings")
    assert (described.max_prefix_tokens, described.max_item_tokens) == (20, 40)


def test_items_of_all_forms_rank_in_one_list(ranker: ListRanker) -> None:
    vector = np.full((2, 24), 0.1, np.float16)
    ranking = ranker.rank("nurse", ["welder", vector, [5, 6, 7], " "], return_items=True)
    assert ranking.ranks == (1, 2, 3, None)
    assert ranking.status[3] is ItemStatus.FAILED
    assert "is empty" in ranking.messages[3]


def test_an_empty_item_is_no_part_of_the_list(ranker: ListRanker) -> None:
    with_empty = ranker.score("nurse", ["welder", f"{ITEM} ", "baker"])
    np.testing.assert_array_equal(
        with_empty.scores[[0, 2]], ranker.score("nurse", ["welder", "baker"]).scores
    )
    assert np.isnan(with_empty.scores[1])
    assert len(ranker.score("nurse", []).scores) == 0
    assert ranker.score("nurse", [""]).status == (ItemStatus.FAILED,)


def test_a_cut_is_told(ranker: ListRanker) -> None:
    long = "welder teacher baker " * 20
    with pytest.raises(LimitExceeded, match=r"item 1: \d+ tokens, max_item_tokens is 40"):
        ranker.score("nurse", ["baker", long])
    result = ranker.score("nurse", ["baker", long], truncation="truncate")
    assert result.status == (ItemStatus.OK, ItemStatus.TRUNCATED)
    cut = ranker.score(long, ["baker"], truncation="truncate")
    assert cut.messages == ("prefix cut to the bundle's limits",)


def test_all_tokens_of_the_lists_are_counted(ranker: ListRanker) -> None:
    one, two = (ranker.score("nurse", ITEMS[:count]).usage for count in (4, 5))
    assert one.prefix_tokens_cached == one.prefix_tokens_computed == 0
    assert two.item_tokens > one.item_tokens > 4


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        (
            [np.zeros((2, 23), np.float32)],
            InvalidRequest,
            r"item 0: embedding tokens of shape \[2, 23\], the",
        ),
        ([np.full((2, 24), np.nan)], InvalidRequest, "item 0: embedding tokens hold nan at"),
        (
            [Key("a")],
            InvalidRequest,
            "item 0 is the key 'a', but the ranker was loaded without a token store",
        ),
    ],
)
def test_what_it_cannot_take_is_named(
    items: list[object], error: type[Exception], message: str, ranker: ListRanker
) -> None:
    with pytest.raises(error, match=message):
        ranker.score("nurse", items)  # type: ignore[arg-type]


def test_keys_are_read_from_a_store_and_the_missing_left_out(list_bundle: Bundle, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((2, 24)).astype(np.float16)
    with open_store(tmp_path / "tokens", create=True) as store:
        space = store.namespace("e" * 64, TokenSpec(2, 24, "float16"), create=True)
        space.put_many([TokenEntry("a", rows, bytes(16))])
        with Scorer.load(list_bundle, store, config=CONFIG) as scorer:
            assert scorer.capabilities == {"scores", "looks_up"}
            result = scorer.score("nurse", [Key("gone"), Key("a"), "welder"])
            plain = scorer.score("nurse", [rows, "welder"])
            with pytest.raises(NotFound, match="item 0: no tokens of key 'gone' under encoder e"):
                scorer.score("nurse", [Key("gone")], on_missing="fail")
    assert result.status[0] is ItemStatus.NOT_FOUND
    np.testing.assert_array_equal(result.scores[1:], plain.scores)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (
            "cuda",
            "has graphs for onnx-cpu, not for CUDA: take --device cpu, or export it with --target onnx-cuda",
        ),
        ("tensorrt", "ranks lists, which device tensorrt does not yet: take --device cpu or cuda"),
    ],
)
def test_a_device_without_graphs_is_refused_by_name(
    device: Device, message: str, list_bundle: Bundle
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        ListRanker.load(list_bundle, config=EngineConfig(device=device))


def test_a_closed_ranker_answers_nothing(list_bundle: Bundle) -> None:
    with ListRanker.load(list_bundle, config=CONFIG) as loaded:
        assert loaded.alive
        assert loaded.counts().store is None
    assert not loaded.alive
    with pytest.raises(Unavailable):
        loaded.score("nurse", ["welder"])
