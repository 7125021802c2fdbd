"""Rank over gRPC: what a ranker of sets answers in process, and refusals by name."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, LimitExceeded, NotFound, RankportError
from rankport.protos.sets import SetRanking
from rankport.protos.types import FeatureDescription
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from rankport.sdk import AsyncClient, Client
from support.sets.requests import NOW, by_id, candidates, history, times

REQUEST: dict[str, Any] = {
    "history": history(6),
    "candidates": candidates(8),
    "times": times(6),
    "now": NOW,
    "sessions": [0, 0, 0, 1, 1, 1, 1, 1],
    "head_weights": {"click": 1.0, "like": 2.5},
    "top_k": 5,
}


@pytest.fixture(scope="module")
def ranker(set_bundle: Callable[[str, str], Bundle]) -> Iterator[SetRanker]:
    with SetRanker.load(set_bundle("hstu", "set-wise"), config=EngineConfig(threads=1)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def address(ranker: SetRanker) -> Iterator[str]:
    with Server({"sets": ranker}, ServerConfig(port=0)) as server:
        yield server.address


def assert_equal(remote: SetRanking, local: SetRanking) -> None:
    np.testing.assert_array_equal(remote.scores, local.scores)
    np.testing.assert_array_equal(remote.head_scores, local.head_scores)
    np.testing.assert_array_equal(remote.order, local.order)
    assert (remote.heads, remote.fingerprint) == (local.heads, local.fingerprint)
    assert remote.usage.item_tokens == local.usage.item_tokens
    assert remote.usage.prefix_tokens_cached == 6


def test_both_clients_answer_as_in_process(address: str, ranker: SetRanker) -> None:
    ranker.rank(**REQUEST)
    local = ranker.rank(**REQUEST)
    with Client(address, timeout_s=10) as client:
        assert_equal(client.rank_set(**REQUEST), local)
        described = client.describe()
        assert (described.kind, described.labels) == ("set-ranker", ("click", "dwell", "like"))
        assert described == replace(ranker.describe(), name="sets")

    async def ask() -> SetRanking:
        async with AsyncClient(address, timeout_s=10) as client:
            return await client.rank_set(**REQUEST)

    assert_equal(asyncio.run(ask()), local)


def test_numbers_of_numpy_and_more_than_there_are_are_taken(address: str, ranker: SetRanker) -> None:
    given = REQUEST | {"head_weights": {"click": np.float32(1), "like": np.float64(2.5)}}
    with Client(address, timeout_s=10) as client:
        for top_k, order in ((np.int64(5), 5), (2**70, 8)):
            answers = [ask(**given | {"top_k": top_k}) for ask in (ranker.rank, client.rank_set)]
            assert_equal(answers[1], answers[0])
            assert len(answers[1].order) == order


def test_equal_candidates_come_in_the_order_of_the_request(address: str) -> None:
    alike = {name: np.repeat(column[:1], 8, axis=0) for name, column in candidates(8).items()}
    with Client(address, timeout_s=10) as client:
        answer = client.rank_set(**REQUEST | {"candidates": alike, "sessions": None, "top_k": None})
    scores = answer.scores.tolist()
    assert len(set(scores)) < 8
    assert answer.order.tolist() == sorted(range(8), key=lambda place: (-scores[place], place))


def test_nothing_may_be_known_of_a_user(address: str, ranker: SetRanker) -> None:
    given: dict[str, Any] = {"history": {}, "candidates": candidates(3), "now": NOW}
    with Client(address, timeout_s=10) as client:
        np.testing.assert_array_equal(client.rank_set(**given).scores, ranker.rank(**given).scores)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"head_weights": {"share": 1.0}}, InvalidRequest, "'share' is no head"),
        ({"head_weights": {"click": 0.0}}, InvalidRequest, "head_weights are all 0"),
        ({"candidates": candidates(17), "sessions": None}, LimitExceeded, "candidates has 17 rows"),
        ({"history": {"movie": [1] * 6}}, InvalidRequest, r"history: features missing rating: give"),
        ({"candidates": candidates(8) | {"title": list("abcdefgh")}}, InvalidRequest, "no token store"),
    ],
)
def test_a_refusal_is_that_of_the_model(
    change: dict[str, Any], error: type[RankportError], message: str, address: str
) -> None:
    with Client(address, timeout_s=10) as client, pytest.raises(error, match=message):
        client.rank_set(**(REQUEST | change))


def test_ids_of_64_bits_reach_their_rows_over_the_wire(
    set_bundle: Callable[..., Bundle], ranker: SetRanker
) -> None:
    """Unsigned ids, half of them beyond an int64, answer as the rows that they name, and are described."""
    keyed = set_bundle("hstu", "set-wise", keyed=True)
    asked = REQUEST | {side: by_id(REQUEST[side]) for side in ("history", "candidates")}
    lists = asked | {"history": {name: column.tolist() for name, column in asked["history"].items()}}
    with SetRanker.load(keyed, config=EngineConfig(threads=1)) as local:
        with Server({"sets": local}, ServerConfig(port=0)) as server, Client(server.address) as client:
            expected = ranker.rank(**REQUEST)
            for given in (asked, lists):
                np.testing.assert_array_equal(client.rank_set(**given).scores, expected.scores)
            described = client.describe().event_features[0]
            assert described == FeatureDescription("movie", "id", 1, "keys", "uint64", 50)
            hashed = client.describe().candidate_features[1]
            assert hashed == FeatureDescription("user", "id", 1, "splitmix64", "int64", 0)
            for wrong, message in (
                (-5, "is the id -5, and the ids of its table are uint64"),
                (0.5, "must be ids"),
            ):
                with pytest.raises(InvalidRequest, match=rf"history\['movie'\].* {message}"):
                    client.rank_set(**asked | {"history": REQUEST["history"] | {"movie": [wrong] * 6}})
        with pytest.raises(
            InvalidRequest, match=r"\['user'\]\[0\] is the id 9223372036854775808, .* are int64"
        ):
            local.rank(**asked | {"candidates": asked["candidates"] | {"user": [2**63] * 8}})


def test_a_call_for_another_kind_is_told(address: str) -> None:
    with Client(address, timeout_s=10) as client, pytest.raises(NotFound, match="model that scores"):
        client.score("a", ["b"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([pb.FeatureColumn(name="movie")], r"candidates\['movie'\] has no values"),
        ([pb.FeatureColumn(name="movie", ids=pb.Integers(values=[1]))] * 2, "has the feature 'movie' twice"),
    ],
)
def test_a_malformed_column_is_refused(columns: list[pb.FeatureColumn], message: str, address: str) -> None:
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError, match=message) as raised:
        pb_grpc.SetRankingStub(channel).Rank(pb.RankRequest(candidates=columns), timeout=10)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
