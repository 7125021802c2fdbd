"""Lists on a server: over gRPC and HTTP as in process, and cached by the list in its order."""

from collections.abc import Iterator

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.list_ranker.list_ranker import ListRanker
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.lifecycle.warming import warm
from rankport.runtime.server.server import Server
from rankport.sdk import Client
from support.servers.http import ask

ITEMS = ["hospital nurse", "welder", "software engineer", "teacher", "baker"]


@pytest.fixture(scope="module")
def ranker(list_bundle: Bundle) -> Iterator[ListRanker]:
    with ListRanker.load(list_bundle, config=EngineConfig(threads=1)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(ranker: ListRanker) -> Iterator[Server]:
    with Server({"lists": ranker}, ServerConfig(port=0, http_port=0, score_cache_bytes=1_000_000)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, timeout_s=10) as opened:
        yield opened


def test_a_client_gets_what_the_process_gives(client: Client, ranker: ListRanker) -> None:
    local, remote = ranker.rank("pilot", ITEMS, 3), client.rank("pilot", ITEMS, 3, return_items=True)
    np.testing.assert_array_equal(remote.scores, local.scores)
    assert remote.items == tuple(ITEMS[place] for place in local.indices)
    assert remote.score_kind == "cosine"


def test_a_cached_score_is_that_of_the_list_in_its_order(client: Client, ranker: ListRanker) -> None:
    orders = [ITEMS, ITEMS[::-1], ITEMS[:3]]
    for items in (*orders, *orders):
        np.testing.assert_array_equal(
            client.score("welder", items).scores, ranker.score("welder", items).scores
        )
    assert client.score("welder", ITEMS[::-1]).usage.items_cached == len(ITEMS)
    assert client.score("welder", ITEMS[1:]).usage.items_cached == 0


def test_a_reranker_dialect_answers(server: Server, ranker: ListRanker) -> None:
    assert server.http_address is not None
    body = {"query": "baker", "documents": ITEMS, "top_n": 2, "model": "lists"}
    reply = ask(server.http_address, "/v1/rerank", body).json
    local = ranker.rank("baker", ITEMS, 2)
    assert [result["index"] for result in reply["results"]] == local.indices.tolist()
    assert [result["relevance_score"] for result in reply["results"]] == pytest.approx(local.scores.tolist())


def test_equal_items_of_several_blocks_stay_in_the_order_given(
    server: Server, client: Client, ranker: ListRanker
) -> None:
    """Two blocks of four equal items say the same of each place, one of two ends them."""
    items = ["hospital nurse"] * 10
    local = ranker.rank("nurse", items)
    scores = ranker.score("nurse", items).scores.tolist()
    assert scores[:4] == scores[4:8]
    expected = sorted(range(10), key=lambda place: (-scores[place], place))
    assert local.indices.tolist() == client.rank("nurse", items).indices.tolist() == expected
    assert server.http_address is not None
    reply = ask(
        server.http_address, "/v1/rerank", {"query": "nurse", "documents": items, "model": "lists"}
    ).json
    assert [result["index"] for result in reply["results"]] == expected


def test_refusals_have_their_names(client: Client, ranker: ListRanker) -> None:
    with pytest.raises(LimitExceeded, match=r"item 0: .* max_item_tokens is 40"):
        client.score("a", ["welder teacher baker " * 20])
    with pytest.raises(
        InvalidRequest, match=r"item 0: embedding tokens of shape \[1, 24\], the bundle takes"
    ):
        client.score("a", [np.zeros((1, 24), np.float32)])


def test_a_server_warms_it_up(ranker: ListRanker) -> None:
    warm(ranker, timeout_s=10)


def test_items_that_are_read_alone_are_answered_and_cached_as_a_list(alone_bundle: Bundle) -> None:
    """Of six, four are in the prompt: another order of those is another list."""
    items = [*ITEMS, "pilot"]
    with ListRanker.load(alone_bundle, config=EngineConfig(threads=1)) as local:
        served = {"alone": local}
        with (
            Server(served, ServerConfig(port=0, score_cache_bytes=1_000_000)) as running,
            Client(running.address, timeout_s=10) as opened,
        ):
            for order in (items, items[::-1], items):
                expected = local.score("nurse", order).scores
                np.testing.assert_array_equal(opened.score("nurse", order).scores, expected)
            assert opened.score("nurse", items).usage.items_cached == len(items)
            assert opened.score("nurse", items[1:]).usage.items_cached == 0
            assert (
                opened.rank("nurse", items, 2).indices.tolist()
                == local.rank("nurse", items, 2).indices.tolist()
            )
