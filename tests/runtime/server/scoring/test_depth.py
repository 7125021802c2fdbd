"""Depth under pressure: the first items are scored, the others say that they were left out."""

import numpy as np
import pytest

from rankport.protos.columns import ItemColumns
from rankport.protos.features import FeatureColumns
from rankport.protos.messages.wire import ScoreQuery
from rankport.protos.types import ItemStatus, ScoreResult
from rankport.runtime.scheduling.futures import resolved
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.scoring.depth import Depth
from rankport.runtime.server.server import Server
from rankport.sdk import Client
from support.servers.deterministic_models import DeterministicRanker

ITEMS = ["a", "b", "c", "d"]


def _score(pending: int, items: list[str], **config: int) -> tuple[ScoreResult, ScoreQuery]:
    ranker = DeterministicRanker()
    seen: list[ScoreQuery] = []

    def submit(query: ScoreQuery, _: float | None) -> object:
        seen.append(query)
        return resolved(ranker.score(query.prefix, list(query.items)))

    features = FeatureColumns(np.arange(len(items), dtype=np.float32)[:, None], ("f",))
    query = ScoreQuery("query", ItemColumns.of(items), "error", "skip", features)
    depth = Depth(ServerConfig(**config), lambda: pending)  # type: ignore[arg-type]
    result = depth.submit(query, None, submit).result(20.0)  # type: ignore[arg-type]
    ranker.close()
    return result, seen[0]


@pytest.mark.parametrize(
    ("pending", "config"),
    [(9, {}), (3, {"depth_mark": 3, "depth_items": 2}), (9, {"depth_mark": 3, "depth_items": 4})],
    ids=["off by default", "at the mark", "a list that is no longer"],
)
def test_all_items_are_scored_without_pressure(pending: int, config: dict[str, int]) -> None:
    result, asked = _score(pending, ITEMS, **config)
    assert result.depth is None
    assert result.status == (ItemStatus.OK,) * 4
    assert asked.items.count == 4


def test_above_the_mark_the_first_items_are_scored_and_the_others_say_why_not() -> None:
    result, asked = _score(4, ITEMS, depth_mark=3, depth_items=2)
    assert result.depth == 2
    assert result.status == (ItemStatus.OK, ItemStatus.OK, ItemStatus.SKIPPED, ItemStatus.SKIPPED)
    assert result.messages[2] == (
        "left out: 4 requests are pending, more than 3 (depth_mark), and the first 2 items are scored"
    )
    ranker = DeterministicRanker()
    np.testing.assert_array_equal(result.scores[:2], ranker.score("query", ITEMS[:2]).scores)
    ranker.close()
    assert np.isnan(result.scores[2:]).all()
    assert result.logits.shape == (4, 2)
    assert list(asked.items) == ["a", "b"]
    assert asked.features is not None
    assert asked.features.values.tolist() == [[0.0], [1.0]]


def test_a_server_under_pressure_tells_the_depth() -> None:
    ranker = DeterministicRanker()
    config = ServerConfig(port=0, grace_s=5.0, depth_mark=1, depth_items=1)
    with Server({"jobs": ranker}, config) as server, Client(server.address, timeout_s=20.0) as client:  # type: ignore[dict-item]
        assert client.score("query", ITEMS).depth is None
        ranker.worker.arrived.acquire()
        ranker.worker.gate.clear()
        first = client.submit("query", ITEMS)
        assert ranker.worker.arrived.acquire(timeout=20.0)
        second = client.submit("query", ITEMS)
        assert ranker.worker.arrived.acquire(timeout=20.0)
        ranker.worker.gate.set()
        assert (first.result(20.0).depth, second.result(20.0).depth) == (None, 1)
        assert second.result().status[1:] == (ItemStatus.SKIPPED,) * 3
    ranker.close()
