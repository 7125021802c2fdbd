"""The score cache gives what the model would give, whatever is written to the store; and keeps to its budget."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.features import FeatureColumns
from rankport.protos.messages.wire import ScoreQuery
from rankport.protos.types import ItemStatus, Key, ScoreResult
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.models.models import ServedModels
from rankport.runtime.server.scoring.cache import CachedScore, ScoreCache
from rankport.runtime.server.scoring.keys import keyed_query
from rankport.runtime.server.scoring.scoring import Scoring
from rankport.runtime.server.server import Server
from rankport.runtime.store.contract import TokenEntry, TokenNamespace, TokenStore
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from rankport.sdk import Client
from support.effort import scale
from support.servers.deterministic_models import DeterministicRanker
from support.servers.reference_bundles import load_reference, reference_bundle
from support.small_rankers import ENCODER

SPEC = TokenSpec(2, 8, "float16")
KEYS = ["a", "b", "c", "gone"]
WORDS = ["red", "blue boots", "green", "red blue green shoes boots"]


def _tokens(draw: random.Random) -> np.ndarray:
    return np.array([[draw.choice([-1.0, 0.5, 2.0])] * 8, [1.0] * 8], np.float16)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenStore]:
    with open_store(tmp_path / "tokens", create=True) as opened:
        namespace = opened.namespace(ENCODER, SPEC, create=True)
        namespace.put_many([TokenEntry(key, _tokens(random.Random(key)), bytes(16)) for key in KEYS[:3]])
        yield opened


@pytest.fixture
def ranker(tmp_path: Path, store: TokenStore) -> Iterator[Ranker]:
    bundle = open_bundle(reference_bundle(tmp_path / "bundle", "jobs", "1", 1))
    with load_reference(bundle, store) as loaded:
        yield loaded


Score = Callable[[ScoreQuery], ScoreResult]


@contextmanager
def _scoring(model: Any, nbytes: int) -> Iterator[tuple[Score, ScoreCache]]:
    models = ServedModels({"jobs": model})
    config = ServerConfig(score_cache_bytes=nbytes)
    with ThreadPoolExecutor(1) as executor:
        scoring = Scoring(models, config, lambda: 0, executor)
        yield lambda query: scoring.submit(models.scorer("jobs"), query, 20.0).result(20.0), scoring.cache


def _item(draw: random.Random) -> Any:
    return draw.choice(
        [
            Key(draw.choice(KEYS)),
            Key(draw.choice(KEYS), "unread"),
            draw.choice(WORDS),
            [draw.randrange(4, 9) for _ in range(draw.choice([1, 2]))],
            _tokens(draw),
        ]
    )


def _query(draw: random.Random) -> ScoreQuery:
    items = [_item(draw) for _ in range(draw.randrange(0, 6))]
    prefix: Any = draw.choice(["red", {"query": "red"}, [5, 6], [5, 7]])
    return ScoreQuery(prefix, ItemColumns.of(items), draw.choice(["error", "truncate"]), "skip")


def _write(draw: random.Random, namespace: TokenNamespace) -> None:
    key = draw.choice(KEYS)
    if draw.random() < 0.3:
        namespace.delete_many([key])
    else:
        namespace.put_many([TokenEntry(key, _tokens(draw), bytes(16))])


def _assert_equal(got: ScoreResult, expected: ScoreResult) -> None:
    np.testing.assert_array_equal(got.scores, expected.scores)
    np.testing.assert_array_equal(got.logits, expected.logits)
    assert (got.status, got.messages) == (expected.status, expected.messages)
    assert (got.fingerprint, got.score_kind) == (expected.fingerprint, expected.score_kind)
    assert got.read_out == expected.read_out


def _without(ranker: Ranker, query: ScoreQuery) -> ScoreResult:
    prefix: Any = query.prefix
    return ranker.score(prefix, query.items, truncation=query.truncation)


def _refusal(ranker: Ranker, query: ScoreQuery) -> InvalidRequest | None:
    try:
        _without(ranker, query)
    except InvalidRequest as error:
        return error
    return None


@pytest.mark.parametrize("nbytes", [2**20, 4000], ids=["roomy", "tight"])
def test_scores_are_those_without_a_cache_whatever_is_written_meanwhile(
    ranker: Ranker, store: TokenStore, nbytes: int
) -> None:
    draw, hits = random.Random(nbytes), 0
    namespace = store.namespace(ENCODER)
    with _scoring(ranker, nbytes) as (score, cache):
        for _ in range(scale(150)):
            if draw.random() < 0.25:
                _write(draw, namespace)
            query = _query(draw)
            if (refusal := _refusal(ranker, query)) is not None:
                with pytest.raises(type(refusal)) as raised:
                    score(query)
                assert str(raised.value) == str(refusal)
                continue
            expected = _without(ranker, query)
            got = score(query)
            _assert_equal(got, expected)
            hits += got.usage.items_cached
            assert cache.counts().nbytes <= nbytes
        assert cache.counts().hits >= hits > 20


def test_a_written_key_is_scored_anew_and_equal_tokens_are_known(ranker: Ranker, store: TokenStore) -> None:
    namespace = store.namespace(ENCODER)
    query = ScoreQuery("red", ItemColumns.of([Key("a"), Key("b")]), "error", "skip")
    with _scoring(ranker, 2**20) as (score, _):
        before = score(query)
        assert score(query).usage.items_cached == 2
        namespace.put_many([TokenEntry("a", np.full((2, 8), 3.0, np.float16), bytes(16))])
        after = score(query)
        assert after.usage.items_cached == 1
        assert after.scores[0] != before.scores[0]
        assert after.scores[1] == before.scores[1]
        same = ScoreQuery("red", ItemColumns.of([np.full((2, 8), 3.0, np.float16)]), "error", "skip")
        assert score(same).usage.items_cached == 1


def test_an_error_names_the_place_in_the_whole_request(ranker: Ranker) -> None:
    good = ItemColumns.of(["red", "green"])
    with _scoring(ranker, 2**20) as (score, _):
        score(ScoreQuery("red", good, "error", "skip"))
        with pytest.raises(InvalidRequest, match="item 2"):
            score(ScoreQuery("red", ItemColumns.of(["red", "green", [999]]), "error", "skip"))
        with pytest.raises(NotFound, match="item 1: no tokens of key 'gone'"):
            score(ScoreQuery("red", ItemColumns.of(["red", Key("gone")]), "error", "fail"))


def test_features_of_another_count_are_refused_by_the_model() -> None:
    model = DeterministicRanker()
    items, features = ItemColumns.of(["a", "b"]), FeatureColumns(np.ones((1, 1), np.float32), ())
    with (
        _scoring(model, 2**20) as (score, _),
        pytest.raises(InvalidRequest, match="features: 'jobs' of kind"),
    ):
        score(ScoreQuery("query", items, "error", "skip", features))
    model.close()


def test_where_items_are_not_scored_apart_only_the_whole_list_in_its_order_is_known() -> None:
    model = DeterministicRanker()  # says nothing of its items
    with _scoring(model, 2**20) as (score, _):
        for items, known in [(["a", "b"], 0), (["a", "b"], 2), (["b", "a"], 0), (["a"], 0), (["a", "b"], 2)]:
            query = ScoreQuery("query", ItemColumns.of(items), "error", "skip")
            result = score(query)
            expected = model.score("query", items)
            np.testing.assert_array_equal(result.scores, expected.scores)
            assert result.usage.items_cached == known
    model.close()


def test_all_that_a_score_depends_on_makes_another_key() -> None:
    def keys(**change: Any) -> list[bytes | None]:
        asked = {
            "prefix": "red",
            "items": ["a"],
            "truncation": "error",
            "features": np.ones((1, 2)),
            "names": ("x", "y"),
            "fingerprint": "f",
        } | change
        features = FeatureColumns(np.asarray(asked["features"], np.float32), asked["names"])
        query = ScoreQuery(
            asked["prefix"], ItemColumns.of(asked["items"]), asked["truncation"], "skip", features
        )
        found = keyed_query(asked["fingerprint"], query, None, apart=True)
        assert found is not None
        return list(found.keys)

    changes: list[dict[str, Any]] = [
        {},
        {"prefix": "blue"},
        {"prefix": {"query": "red"}},
        {"prefix": [1, 2]},
        {"prefix": [12]},
        {"prefix": np.ones(2, np.float32)},
        {"prefix": np.ones(2, np.float16)},
        {"items": ["b"]},
        {"items": [[97]]},
        {"items": [np.ones((1, 2), np.float32)]},
        {"items": [np.ones((2, 1), np.float32)]},
        {"truncation": "truncate"},
        {"features": np.zeros((1, 2))},
        {"names": ("y", "x")},
        {"fingerprint": "g"},
    ]
    made = [tuple(keys(**change)) for change in changes]
    assert len(set(made)) == len(made)
    assert keys() == keys()


def test_the_least_recently_used_scores_go_first() -> None:
    score = CachedScore(0.5, bytes(8), ItemStatus.OK, "")
    one = ScoreCache(10_000)
    one.put({b"probe": score})
    size = one.counts().nbytes
    cache = ScoreCache(3 * size)
    cache.put({b"1": score, b"2": score, b"3": score})
    assert cache.find([b"1"]) == [score]
    cache.put({b"4": score})
    assert cache.find([b"1", b"2", b"3", b"4", None]) == [score, None, score, score, None]
    assert (cache.counts().entries, cache.counts().nbytes) == (3, 3 * size)
    assert (cache.counts().hits, cache.counts().misses) == (4, 2)


def test_a_server_tells_the_hits_in_the_usage_of_the_reply(ranker: Ranker) -> None:
    config = ServerConfig(port=0, grace_s=5.0, score_cache_bytes=2**20)
    with Server({"jobs": ranker}, config) as server, Client(server.address, timeout_s=20.0) as client:
        assert client.score("red", ["blue", Key("a")]).usage.items_cached == 0
        result = client.score("red", [Key("a"), "green", "blue"])
        assert result.usage.items_cached == 2
        np.testing.assert_array_equal(result.scores, ranker.score("red", [Key("a"), "green", "blue"]).scores)
