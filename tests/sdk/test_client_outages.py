"""A client whose servers stop, start again, refuse for a while, or are several."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from rankport.protos.errors import LimitExceeded, Overloaded, Unavailable
from rankport.protos.messages import wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from rankport.sdk import AsyncClient, Client
from support.effort import scale
from support.servers.deterministic_models import DeterministicRanker
from support.servers.serving import Serving, serving

SCORE_OF_A = 97.0 + ord("q")


@contextmanager
def running(ranker: DeterministicRanker, port: int = 0) -> Iterator[Server]:
    with Server({"ranker": ranker}, ServerConfig(port=port, grace_s=0.0)) as server:
        yield server


@pytest.fixture
def ranker() -> Iterator[DeterministicRanker]:
    model = DeterministicRanker()
    yield model
    model.close()


def score(client: Client) -> float:
    return float(client.score("q", ["a"]).scores[0])


def submit(client: Client) -> float:
    return float(client.submit("q", ["a"]).result(10).scores[0])


def score_async(client: Client | str, **options: Any) -> float:
    async def call() -> float:
        async with AsyncClient(str(client), timeout_s=10, **options) as own:
            return float((await own.score("q", ["a"])).scores[0])

    return asyncio.run(call())


def test_a_server_that_is_back_is_found(ranker: DeterministicRanker) -> None:
    with running(ranker) as server:
        port = server.port
        client = Client(f"127.0.0.1:{port}", timeout_s=10)
        assert score(client) == SCORE_OF_A
    up_again_s = time.monotonic() + scale(1)
    while time.monotonic() < up_again_s:
        with pytest.raises(Unavailable, match="cannot be reached"):
            score(client)
    with running(ranker, port), client:
        assert _first_answer(client) == SCORE_OF_A


def _first_answer(client: Client) -> float:
    until_s = time.monotonic() + 30
    while True:
        try:
            return score(client)
        except Unavailable:
            assert time.monotonic() < until_s


def test_a_call_outlives_a_restart(ranker: DeterministicRanker) -> None:
    with running(ranker) as server:
        port = server.port
        client = Client(f"127.0.0.1:{port}", timeout_s=10)
        score(client)
    with client, ThreadPoolExecutor() as pool:
        called = pool.submit(score, client)
        with running(ranker, port):
            assert called.result(10) == SCORE_OF_A


@pytest.fixture
def refused() -> list[pb.ScoreRequest]:
    """The requests that `refusing` had."""
    return []


@pytest.fixture
def refusing(
    ranker: DeterministicRanker, refused: list[pb.ScoreRequest], request: pytest.FixtureRequest
) -> Iterator[str]:
    """Address of a server that refuses its first two calls, with the trailing metadata of the test's parameter."""
    trailers, details = getattr(request, "param", ((("rankport-error", "Overloaded"),), "full"))

    def answer(request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:
        refused.append(request)
        if len(refused) <= 2:
            context.set_trailing_metadata(trailers)
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, details)
        return wire.score_response(ranker.score("q", ["a"]))

    method = grpc.unary_unary_rpc_method_handler(
        answer, pb.ScoreRequest.FromString, pb.ScoreResponse.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("rankport.v1.Scoring", {"Score": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize("call", [score, submit])
@pytest.mark.parametrize("refusing", [((("grpc-retry-pushback-ms", "20"),), "full")], indirect=True)
def test_an_overloaded_server_is_asked_again_when_it_says(
    refusing: str, refused: list[pb.ScoreRequest], call: Callable[[Client], float]
) -> None:
    with Client(refusing, timeout_s=10) as client:
        begun_s = time.monotonic()
        assert call(client) == SCORE_OF_A
        assert time.monotonic() - begun_s >= 0.04
    assert len(refused) == 3


@pytest.mark.parametrize("refusing", [((("grpc-retry-pushback-ms", "20"),), "full")], indirect=True)
def test_the_asyncio_client_asks_again_too(refusing: str, refused: list[pb.ScoreRequest]) -> None:
    assert score_async(refusing) == SCORE_OF_A
    assert len(refused) == 3


NEVER_AGAIN = [
    ((("grpc-retry-pushback-ms", "-1"),), "full"),
    ((("grpc-retry-pushback-ms", "20000"),), "full"),  # longer than the call may take
    ((), "Received message larger than max (5000 vs. 1000)"),
    ((), "a limit of something in between"),
]


@pytest.mark.parametrize("refusing", NEVER_AGAIN, indirect=True)
def test_what_another_try_cannot_mend_is_told_at_once(refusing: str, refused: list[pb.ScoreRequest]) -> None:
    with Client(refusing, timeout_s=10) as client:
        with pytest.raises((Overloaded, LimitExceeded)):
            score(client)
        assert isinstance(client.submit("q", ["a"]).exception(10), Overloaded | LimitExceeded)
    assert len(refused) == 2


def test_without_retry_a_call_is_made_once(refusing: str, refused: list[pb.ScoreRequest]) -> None:
    with Client(refusing, timeout_s=10, retry=False) as client, pytest.raises(Overloaded, match="full"):
        score(client)
    with pytest.raises(Overloaded, match="full"):
        score_async(refusing, retry=False)
    assert len(refused) == 2


def test_a_future_that_waits_for_its_next_try_can_be_cancelled(
    refusing: str, refused: list[pb.ScoreRequest]
) -> None:
    with Client(refusing, timeout_s=10) as client:
        future = client.submit("q", ["a"])
        while not refused:
            time.sleep(0.001)
        assert future.cancel()
        assert score(client) == SCORE_OF_A  # the second refusal is its own
    assert len(refused) == 3


@contextmanager
def two_servers() -> Iterator[tuple[Serving, Serving]]:
    with serving() as first, serving() as second:
        yield first, second


def test_several_servers_are_asked_in_turn_and_one_that_is_gone_costs_no_call() -> None:
    with two_servers() as (first, second), Client([first.address, second.address], timeout_s=10) as client:
        while not (first.ranker.worker.computed and second.ranker.worker.computed):
            score(client)  # until both are connected
        before = first.ranker.worker.computed, second.ranker.worker.computed
        for _ in range(10):
            score(client)
        after = first.ranker.worker.computed, second.ranker.worker.computed
        assert [now - then for now, then in zip(after, before, strict=True)] == [5, 5]
        first.server.stop(0)
        assert [score(client) for _ in range(10)] == [SCORE_OF_A] * 10


def test_connections_that_are_old_are_made_anew_and_no_call_fails() -> None:
    with serving(ServerConfig(port=0, grace_s=5.0, max_connection_age_s=0.05)) as served:
        states: list[grpc.ChannelConnectivity] = []
        with grpc.insecure_channel(served.address) as channel, Client(served.address, timeout_s=10) as client:
            channel.subscribe(states.append, try_to_connect=True)
            until_s = time.monotonic() + 10
            while grpc.ChannelConnectivity.IDLE not in states[1:] and time.monotonic() < until_s:
                assert score(client) == SCORE_OF_A
            assert grpc.ChannelConnectivity.READY in states
            assert grpc.ChannelConnectivity.IDLE in states[1:]
