"""Loaded towers: every form of query and item gives the score of the module itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, LimitExceeded, NotFound, PairingError, Unavailable
from rankport.protos.types import ItemStatus, Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.jobs.config import EncodeJobConfig
from rankport.runtime.jobs.encode_job import namespace_of, run_encode_job
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.kinds.two_tower.towers import Towers
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.opening import open_store

ONE = EngineConfig(threads=1)
QUERY = "senior data engineer"
ITEMS = ["nurse", "data engineer", "chief cook of the medical sales", "welder and baker"]
FEATURES = {
    "bm25": [1.0, float("nan"), 7.5, 3.0],
    "length": [20.0, 150.0, 300.0, 1.0],
    "clicks": [0.0, 2.0, -1.0, 0.5],
}
COLUMNS = np.array(list(FEATURES.values()), np.float32).T


@pytest.fixture(scope="module")
def towers(wide_bundle: Bundle) -> Iterator[Towers]:
    with Towers.load(wide_bundle, config=ONE) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def store(towers: Towers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenStore]:
    """A store with the items under the keys 0, 1, ..."""
    rows = [ItemRow(line, str(line), text) for line, text in enumerate(ITEMS)]
    with open_store(tmp_path_factory.mktemp("rows") / "store", create=True) as opened:
        report = run_encode_job(towers, namespace_of(opened, towers), rows, EncodeJobConfig())
        assert report.encoded == len(ITEMS)
        yield opened


@pytest.fixture(scope="module")
def expected(wide_towers: Path) -> NDArray[np.float32]:
    """Logits of the checkpoint's own forward, an item at a time. [items, outputs]"""
    import torch

    from support.checkpoints import tiny_tokenizer
    from support.reading.two_towers import loaded

    module, tokenizer = loaded(wide_towers), tiny_tokenizer()
    ids = [torch.tensor([tokenizer.encode(text).ids]) for text in (QUERY, *ITEMS)]
    ones = [torch.ones_like(each) for each in ids]
    logits = [
        module(ids[0], ones[0], ids[place], ones[place], torch.tensor(COLUMNS[place - 1 : place]))
        for place in range(1, len(ids))
    ]
    rows: NDArray[np.float32] = torch.cat(logits).numpy()
    return rows


def close(actual: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(actual, wanted, atol=2e-6)


def test_texts_are_scored_as_the_module_does(towers: Towers, expected: NDArray[np.float32]) -> None:
    result = towers.score(QUERY, ITEMS, features=FEATURES)
    close(result.logits, expected)
    assert np.array_equal(result.scores, result.logits[:, 1])  # of the positive output
    assert (result.score_kind, result.read_out) == ("logit", "logit of applied")
    assert result.fingerprint == towers.fingerprint
    assert result.status == (ItemStatus.OK,) * 4
    assert (result.usage.prefix_tokens_computed, result.usage.item_tokens) == (5, 3 + 4 + 8 + 5)


def test_each_side_counts_for_itself(wide_bundle: Bundle) -> None:
    with Towers.load(wide_bundle, config=ONE) as towers:
        towers.score(QUERY, ITEMS, features=FEATURES)
        counts = towers.counts()
    assert counts.store is None
    runs = {on: sum(stage.runs for stage in engine.stages.values()) for on, engine in counts.engines.items()}
    assert runs == {"cpu query": 1, "cpu item": 4}


def test_every_form_of_an_item_has_one_score(
    towers: Towers, wide_bundle: Bundle, store: TokenStore, expected: NDArray[np.float32]
) -> None:
    rows = towers.represent(ITEMS, side="item")
    mixed = [Key("0"), rows[1], [24, 31, 32, 28, 23], "welder and baker"]
    features = COLUMNS.copy()
    with Towers.load(wide_bundle, store=store, config=ONE) as keyed:
        assert keyed.describe().item_forms == ("text", "token_ids", "embeddings", "key")
        close(keyed.score(QUERY, [Key(str(i)) for i in range(4)], features=features).logits, expected)
        scored = keyed.score(QUERY, mixed, features=features)
    close(scored.logits[[0, 1, 3]], expected[[0, 1, 3]])
    close(towers.score(QUERY, rows, features=features).logits, expected)
    close(towers.score(QUERY, rows[:, None], features=features).logits, expected)


def test_a_query_may_be_its_representation(towers: Towers, expected: NDArray[np.float32]) -> None:
    row = towers.represent([QUERY], side="query")[0]
    result = towers.score(row, ITEMS, features=COLUMNS)
    close(result.logits, expected)
    assert result.usage.prefix_tokens_computed == 0
    given = towers.score(row, towers.represent(ITEMS, side="item"), features=COLUMNS)
    close(given.logits, expected)
    assert given.usage.queue_s == 0.0


def test_representations_are_not_scored_once_it_is_closed(wide_bundle: Bundle) -> None:
    with Towers.load(wide_bundle, config=ONE) as loaded:
        rows = loaded.represent([QUERY, *ITEMS], side="query")
    with pytest.raises(Unavailable, match="closed; load the bundle again"):
        loaded.score(rows[0], list(rows[1:]), features=COLUMNS)


def test_columns_go_by_their_names(towers: Towers, expected: NDArray[np.float32]) -> None:
    turned = {name: FEATURES[name] for name in ("clicks", "bm25", "length")}
    close(towers.score(QUERY, ITEMS, features=turned).logits, expected)


def test_items_in_another_order_have_their_own_features(
    towers: Towers, expected: NDArray[np.float32]
) -> None:
    order = [2, 0, 3, 1]
    result = towers.score(QUERY, [ITEMS[i] for i in order], features=COLUMNS[order])
    close(result.logits, expected[order])
    best = towers.rank(QUERY, ITEMS, top_k=2, features=FEATURES)
    assert best.indices.tolist() == np.argsort(-expected[:, 1])[:2].tolist()


def test_what_is_not_stored_is_told_and_the_rest_scored(
    wide_bundle: Bundle, store: TokenStore, expected: NDArray[np.float32]
) -> None:
    items = [Key("0"), Key("absent"), Key("2")]
    with Towers.load(wide_bundle, store=store, config=ONE) as keyed:
        result = keyed.score(QUERY, items, features=COLUMNS[:3])
        close(result.logits[[0, 2]], expected[[0, 2]])
        assert np.isnan(result.logits[1]).all()
        assert result.status[1] is ItemStatus.NOT_FOUND
        with pytest.raises(NotFound, match="item 1: no tokens of key 'absent'"):
            keyed.score(QUERY, items, on_missing="fail", features=COLUMNS[:3])
        nothing = keyed.score(QUERY, [Key("absent")], features=COLUMNS[:1])
    assert np.isnan(nothing.scores).all()


def test_no_items_give_an_empty_result(towers: Towers) -> None:
    result = towers.score(QUERY, [], features=np.empty((0, 3), np.float32))
    assert result.logits.shape == (0, 2)
    assert towers.encode([]).shape == (0, 1, 12)


def test_a_text_too_long_is_an_error_or_cut(towers: Towers) -> None:
    long = " ".join(["nurse"] * 40)
    with pytest.raises(LimitExceeded):
        towers.score(QUERY, [long], features=COLUMNS[:1])
    cut = towers.score(QUERY, [long, "nurse"], truncation="truncate", features=COLUMNS[:2])
    assert cut.status == (ItemStatus.TRUNCATED, ItemStatus.OK)
    both = towers.score(long, ["nurse"], truncation="truncate", features=COLUMNS[:1])
    assert both.messages == ("prefix cut to the bundle's limits",)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no features": ({}, "features are missing: give bm25, length, clicks"),
    "unknown": (
        {"features": FEATURES | {"bm26": [1.0] * 4}},
        r"features unknown bm26: the bundle has bm25, length, clicks",
    ),
    "one missing": (
        {"features": {name: FEATURES[name] for name in ("bm25", "clicks")}},
        r"features missing length: the bundle",
    ),
    "columns": ({"features": COLUMNS[:, :2]}, "features has 2 columns, the bundle has 3"),
    "rows": ({"features": COLUMNS[:3]}, "features has rows for 3 items, the request has 4"),
    "NaN": (
        {"features": FEATURES | {"length": [1.0, float("nan"), 2.0, 3.0]}},
        r"features\['length'\] of item 1 is NaN, and the bundle states no value",
    ),
    "infinite": (
        {"features": FEATURES | {"bm25": [1.0, 2.0, float("inf"), 3.0]}},
        r"features\['bm25'\] of item 2 is infinite",
    ),
    "on_missing": (
        {"features": COLUMNS, "on_missing": "guess"},
        "on_missing is 'guess'; give one of skip, fail, encode",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_features_are_named(towers: Towers, name: str) -> None:
    options, message = BAD[name]
    with pytest.raises(InvalidRequest, match=message):
        towers.score(QUERY, ITEMS, **options)


def test_a_wrong_width_names_the_item_and_both_shapes(towers: Towers) -> None:
    narrow = np.ones((4, 11), np.float32)
    with pytest.raises(
        InvalidRequest, match=r"item 0: embedding tokens of shape \[1, 11\], the bundle takes \[1, 12\]"
    ):
        towers.score(QUERY, narrow, features=COLUMNS)
    with pytest.raises(InvalidRequest, match=r"prefix: embedding tokens of shape \[1, 11\]"):
        towers.score(narrow[0], ITEMS, features=COLUMNS)


def test_a_side_must_be_said_where_the_towers_differ(towers: Towers) -> None:
    with pytest.raises(InvalidRequest, match="side is missing, and query and item are read differently"):
        towers.represent(["nurse"])
    with pytest.raises(InvalidRequest, match="side is 'left': give query or item"):
        towers.represent(["nurse"], "left")  # type: ignore[arg-type]
    sides = [towers.represent(["nurse", [6, 9]], side=side) for side in ("query", "item")]
    assert np.abs(sides[0] - sides[1]).max() > 1e-2
    assert np.array_equal(towers.encode(["nurse"])[:, 0], sides[1][:1])


def test_a_store_of_another_bundle_is_refused(wide_bundle: Bundle, tmp_path: Path) -> None:
    with (
        open_store(tmp_path / "store", create=True) as empty,
        pytest.raises(PairingError, match="has no representations of bundle 'tiny-towers'"),
    ):
        Towers.load(wide_bundle, store=empty, config=ONE)


def test_keys_need_a_store(towers: Towers) -> None:
    with pytest.raises(
        InvalidRequest, match=r"item 0 is the key '0', but .* was loaded without a token store"
    ):
        towers.score(QUERY, [Key("0")], features=COLUMNS[:1])
    with pytest.raises(InvalidRequest, match="prefix is the key 'q', and no stored queries are at hand"):
        towers.score(Key("q"), ["nurse"], features=COLUMNS[:1])


def test_an_empty_item_fails_and_the_others_are_scored_as_without_it(towers: Towers) -> None:
    result = towers.score(QUERY, [ITEMS[0], "", ITEMS[2]], features=COLUMNS[:3])
    without = towers.score(QUERY, [ITEMS[0], ITEMS[2]], features=COLUMNS[[0, 2]])
    assert result.status == (ItemStatus.OK, ItemStatus.FAILED, ItemStatus.OK)
    assert result.messages[1].startswith("item is empty: it has no token of its own")
    np.testing.assert_allclose(result.scores[[0, 2]], without.scores, atol=1e-6)
    assert np.isnan(result.scores[1])
    for side in ("query", "item"):
        with pytest.raises(InvalidRequest, match="item 1: is empty"):
            towers.encode(["nurse", " "], side=side)  # type: ignore[arg-type]
