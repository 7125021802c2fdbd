"""Classes of priority from the wire to the model: said in metadata or a header, counted, and with room of their own."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
import pytest

from rankport.protos.errors import InvalidRequest, Overloaded
from rankport.protos.messages import wire
from rankport.protos.messages.streamed import ScoreCall
from rankport.protos.priorities import PRIORITY_KEY, Priority, own_priority, priority
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.scheduling.chained import chained
from rankport.runtime.server.config import ServerConfig
from rankport.sdk import AsyncClient, Client
from support.servers.http import ask
from support.servers.serving import HTTP, Serving, serving
from support.servers.statuses import refusal

BACKGROUND: list[Priority] = ["background"]
INTERACTIVE: list[Priority] = ["interactive"]


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving(HTTP) as running:
        yield running


@pytest.fixture
def served(server: Serving) -> Serving:
    server.ranker.worker.priorities.clear()
    server.encoder.worker.priorities.clear()
    return server


def test_requests_of_a_block_have_its_class_and_others_are_interactive(served: Serving) -> None:
    with Client(served.address, timeout_s=20) as client:
        client.score("query", ["a"])
        with priority("background"):
            client.score("query", ["a"])  # read in a thread
            client.score("query", [[1, 2]])  # read in the event loop
            client.submit("query", ["a"]).result()
            next(client.score_stream([ScoreCall("id", "query", ["a"])]))
            client.encode(["a"])
    assert served.ranker.worker.priorities == INTERACTIVE + 4 * BACKGROUND
    assert served.encoder.worker.priorities == BACKGROUND


async def _score(address: str) -> None:
    async with AsyncClient(address, timeout_s=20) as client:
        with priority("background"):
            await client.score("query", ["a"])


def test_the_client_for_asyncio_says_the_class_too(served: Serving) -> None:
    asyncio.run(_score(served.address))
    assert served.ranker.worker.priorities == BACKGROUND


def test_a_stream_of_texts_to_encode_is_in_the_background_unless_it_says_otherwise(served: Serving) -> None:
    with Client(served.address) as client:
        list(client.encode_stream([("id", "text")]))
        with priority("interactive"):
            list(client.encode_stream([("id", "text")]))
    assert served.encoder.worker.priorities == [*BACKGROUND, *INTERACTIVE]


def test_a_header_of_http_says_the_class(served: Serving) -> None:
    body = {"query": "a", "documents": ["b"]}
    for headers in ({}, {"X-Priority": "background"}):
        assert ask(served.server.http_address, "/rerank", body, headers).status == 200
    assert served.ranker.worker.priorities == [*INTERACTIVE, *BACKGROUND]
    refused = ask(served.server.http_address, "/rerank", body, {"x-priority": "high"})
    assert refused.status == 400
    told = "x-priority is 'high': it must be one of interactive, background"
    assert refused.json["error"]["message"] == told


def test_a_class_that_there_is_not_is_refused_by_name(served: Serving) -> None:
    request = wire.score_request("", "query", ["a"], "error", "skip")
    with grpc.insecure_channel(served.address) as channel:
        score = pb_grpc.ScoringStub(channel).Score
        refused = refusal(lambda: score(request, timeout=10, metadata=((PRIORITY_KEY, "urgent"),)))
    assert (refused.code, refused.name) == (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest.__name__)
    assert refused.message == "x-priority is 'urgent': it must be one of interactive, background"
    assert not served.ranker.worker.priorities


def test_work_in_two_steps_keeps_its_class() -> None:
    first: Future[int] = Future()

    def then(_: int) -> "Future[Priority]":
        second: Future[Priority] = Future()
        second.set_result(own_priority())
        return second

    with ThreadPoolExecutor(1) as threads:
        with priority("background"):
            whole = chained(first, then, threads)
        first.set_result(1)
        assert whole.result(10) == "background"


def test_the_background_has_half_of_the_places_and_refusals_are_counted_by_class_and_reason() -> None:
    config = ServerConfig(port=0, http_port=0, max_pending_calls=4)
    with serving(config) as served, Client(served.address, timeout_s=20, retry=False) as client:
        served.ranker.worker.gate.clear()
        with priority("background"):
            accepted = [client.submit("query", ["a"]) for _ in range(2)]
            for _ in accepted:
                assert served.ranker.worker.arrived.acquire(timeout=10)
            told = r"2 requests in the background are pending, the limit is 2 of 4 \(max_pending_calls\)"
            with pytest.raises(Overloaded, match=told):
                client.score("query", ["a"])
            (streamed,) = client.score_stream([ScoreCall("id", "query", ["a"])])
            assert isinstance(streamed.error, Overloaded)
        accepted += [client.submit("query", ["a"]) for _ in range(2)]
        for _ in accepted[2:]:
            assert served.ranker.worker.arrived.acquire(timeout=10)
        with pytest.raises(Overloaded, match="4 requests are pending, the limit is 4"):
            client.score("query", ["a"])
        served.ranker.worker.gate.set()
        assert all(len(future.result().scores) == 1 for future in accepted)
        page = ask(served.server.http_address, "/metrics").text
    assert 'rankport_refused_requests_total{priority="background",reason="room"} 2.0' in page
    assert 'rankport_refused_requests_total{priority="interactive",reason="room"} 1.0' in page
    assert 'rankport_answer_seconds_count{model="ranker@1",priority="background"} 2.0' in page
    assert "rankport_overloads_total 3.0" in page
