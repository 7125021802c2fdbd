"""Calls that are refused before their message: clients here say that a call comes, and nothing of it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import pytest

from rankport.protos.errors import Overloaded
from rankport.protos.kserve import kserve_pb2
from rankport.protos.messages import wire
from rankport.protos.priorities import PRIORITY_KEY
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.protos.versions import MODEL_KEY
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.security.tokens import Limits, line_of, new_token
from support.servers.deterministic_models import Worker
from support.servers.http import ask
from support.servers.serving import GRPCIO, HTTP, Serving, serving
from support.servers.statuses import Refusal, refusal
from support.servers.supervised import eventually
from support.servers.ways import way_to

REQUEST = wire.score_request("", "query", ["a"], "error", "skip")
SCORE, INFER = "/rankport.v1.Scoring/Score", "/inference.GRPCInferenceService/ModelInfer"
BACKGROUND = (PRIORITY_KEY, "background")


def unread(address: str, method: str = SCORE, *metadata: tuple[str, str]) -> Refusal:
    """Makes a call whose message never comes, and tells how it was refused."""
    ended = threading.Event()

    def never() -> Iterator[bytes]:
        ended.wait()
        yield from ()

    with grpc.insecure_channel(address) as channel:
        try:
            call = channel.stream_unary(method)
            return refusal(lambda: call(never(), timeout=20, metadata=metadata))
        finally:
            ended.set()


@contextmanager
def full(config: ServerConfig = HTTP) -> Iterator[Serving]:
    """Serves a ranker that computes one request, and has another in its queue of one."""
    with serving(config, max_queued=1) as served, grpc.insecure_channel(served.address) as channel:
        served.ranker.worker.gate.clear()
        pending = []
        for _ in range(2):
            pending.append(pb_grpc.ScoringStub(channel).Score.future(REQUEST))
            assert served.ranker.worker.arrived.acquire(timeout=10)
            if len(pending) < 2:
                eventually(lambda: has_room(served.ranker.worker))
        yield served
        served.ranker.worker.gate.set()
        assert all(len(wire.score_result(call.result()).scores) == 1 for call in pending)


def has_room(worker: Worker) -> bool:
    try:
        worker.check_room()
    except Overloaded:
        return False
    return True


def test_a_full_queue_is_told_before_the_message_and_counted_as_any_refusal() -> None:
    with full() as served:
        refused = unread(served.address, SCORE, ("x-request-id", "order-17"))
        counts = served.server.counts.snapshot()
        page = ask(served.server.http_address, "/metrics").text
    assert (refused.code, refused.name) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "Overloaded")
    assert refused.message == "1 requests are queued"
    assert refused.info.reason == "Overloaded"
    assert refused.retry_s is not None
    assert int(refused.trailers["grpc-retry-pushback-ms"]) == round(refused.retry_s * 1000)
    assert refused.trailers["x-request-id"] == "order-17"
    assert counts[Outcome.REJECTED] == 1
    assert 'rankport_refused_requests_total{priority="interactive",reason="room"} 1.0' in page
    assert "rankport_overloads_total 1.0" in page
    called = 'method="Scoring.Score",model="ranker@1"'
    assert any("RESOURCE_EXHAUSTED" in line and called in line for line in page.splitlines())


def test_a_model_with_room_answers_beside_one_that_is_full() -> None:
    with full() as served, grpc.insecure_channel(served.address) as channel:
        pb_grpc.EmbeddingStub(channel).Encode(wire.encode_request("", ["a"], "error"), timeout=10)
        # Which model is meant stands in the message.
        call = channel.unary_unary(INFER, kserve_pb2.ModelInferRequest.SerializeToString)
        told = refusal(lambda: call(kserve_pb2.ModelInferRequest(model_name="none"), timeout=10))
        named = [unread(served.address, INFER, (MODEL_KEY, name)) for name in ("ranker", "ranker@1")]
        for name in ("encoder", "none"):
            with pytest.raises(grpc.RpcError, match="no model is named 'none'"):
                call(
                    kserve_pb2.ModelInferRequest(model_name="none"), timeout=10, metadata=((MODEL_KEY, name),)
                )
    assert told.code is grpc.StatusCode.NOT_FOUND
    assert {refused.message for refused in named} == {"1 requests are queued"}


def test_scores_that_may_be_known_are_read_for_whatever_the_queue_has() -> None:
    with (
        full(replace(HTTP, score_cache_bytes=2**20)) as served,
        grpc.insecure_channel(served.address) as channel,
    ):
        for method in (SCORE, INFER):
            told = refusal(lambda: channel.stream_unary(method)(iter(()), timeout=20))  # noqa: B023
            assert told.message == "the call has no message"


def test_a_request_of_any_model_is_refused_where_all_are_full() -> None:
    with pending_everywhere() as served:
        for method in (SCORE, INFER, "/rankport.v1.Embedding/Encode"):
            refused = unread(served.address, method)
            assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "1 request is pending, the limit is 1" in refused.message
        # What is no work has its answer.
        with grpc.insecure_channel(served.address) as channel:
            assert pb_grpc.ModelsStub(channel).List(pb.ListModelsRequest(), timeout=10).models


@contextmanager
def pending_everywhere(places: int = 1, *metadata: tuple[str, str]) -> Iterator[Serving]:
    """Serves with one request pending, which takes all of the places, or those of its class."""
    with serving(replace(HTTP, max_pending_calls=places)) as served:
        served.ranker.worker.gate.clear()
        with grpc.insecure_channel(served.address) as channel:
            call = pb_grpc.ScoringStub(channel).Score.future(REQUEST, metadata=metadata)
            assert served.ranker.worker.arrived.acquire(timeout=10)
            yield served
            served.ranker.worker.gate.set()
            call.result()


def test_the_queue_of_a_lower_class_keeps_no_request_of_a_higher_one_out() -> None:
    with pending_everywhere(2, BACKGROUND) as served, grpc.insecure_channel(served.address) as channel:
        assert "in the background" in unread(served.address, SCORE, BACKGROUND).message
        asked = pb_grpc.ScoringStub(channel).Score.future(REQUEST)
        assert served.ranker.worker.arrived.acquire(timeout=10)
        served.ranker.worker.gate.set()
        assert len(wire.score_result(asked.result()).scores) == 1


def test_who_may_call_is_asked_first_and_a_quota_refuses_before_the_message(tmp_path: Path) -> None:
    token = new_token("small")
    file = tmp_path / "clients.txt"
    file.write_text(line_of(token, ["call"], Limits(items_per_s=1)) + "\n")
    config = replace(HTTP, max_pending_calls=1, security=SecurityConfig(token_file=str(file)))
    own = ("authorization", f"Bearer {token}")
    with serving(config) as served:
        with grpc.insecure_channel(served.address) as channel:
            score = pb_grpc.ScoringStub(channel).Score
            score(wire.score_request("", "query", ["a"] * 100, "error", "skip"), timeout=10, metadata=[own])
        refused = unread(served.address, SCORE, own)
        stranger = unread(served.address)
    assert (refused.code, refused.name) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QuotaExceeded")
    assert refused.retry_s is not None
    assert refused.retry_s > 10
    assert (stranger.code, stranger.name) == (grpc.StatusCode.UNAUTHENTICATED, "Unauthenticated")


def test_http_answers_at_the_headers_and_goes_on_behind_the_body() -> None:
    body = b" " * 300_000
    with full() as served:
        connection = HTTPConnection(served.server.http_address, timeout=20)
        connection.putrequest("POST", "/rerank")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", str(len(body)))
        connection.endheaders()
        with connection.getresponse() as answer:
            assert answer.status == 429
            assert int(answer.headers["retry-after-ms"]) > 0
            assert b"1 requests are queued" in answer.read()
        connection.send(body)
        connection.request("GET", "/metrics")  # on the same connection
        with connection.getresponse() as answer:
            assert answer.status == 200
        connection.close()
        counts = served.server.counts.snapshot()
    assert counts[Outcome.REJECTED] == 1


def test_a_call_that_is_given_up_before_its_message_counts_as_nothing_and_one_without_is_invalid() -> None:
    async def odd_calls(address: str) -> grpc.StatusCode:
        async with grpc.aio.insecure_channel(address) as channel:
            call: Any = channel.stream_unary(SCORE)
            empty = call()
            await empty.done_writing()
            code: grpc.StatusCode = await empty.code()
            given_up = call()
            await asyncio.sleep(0)
            given_up.cancel()
            # The cancellation travels ahead of this call on the same connection.
            await channel.unary_unary(SCORE)(REQUEST.SerializeToString())
            return code

    with serving() as served:
        code = asyncio.run(odd_calls(served.address))
        counts = {outcome: count for outcome, count in served.server.counts.snapshot().items() if count}
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert counts == {Outcome.INVALID: 1, Outcome.ANSWERED: 1}


@pytest.mark.parametrize("ahead", [2**16, 2**18])
def test_a_refused_client_sends_no_more_than_it_may_ahead(ahead: int) -> None:
    large = wire.score_request("", "query", ["x" * 8_000_000], "error", "skip")
    if ahead > 2**16 and GRPCIO < (1, 74):
        pytest.skip("an older grpcio lets nobody go 64 KiB ahead")
    with full(replace(HTTP, max_unread_bytes=ahead)) as served, way_to(served.address) as way:
        with grpc.insecure_channel(way.address) as channel:
            told = refusal(lambda: pb_grpc.ScoringStub(channel).Score(large, timeout=20))
        assert told.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ahead // 2 < way.sent < ahead + 2**14
