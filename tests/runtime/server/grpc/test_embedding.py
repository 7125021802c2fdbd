"""Encode and EncodeStream: order, bad texts, overload, and the end of a stream nobody reads."""

import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.messages import wire
from rankport.protos.types import EncodedText, ItemStatus, Key
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.server import Server
from support.servers.deterministic_models import DeterministicEncoder
from support.servers.serving import LOCAL, Serving, serving


@pytest.fixture
def served() -> Iterator[Serving]:
    with serving() as running:
        yield running


@pytest.fixture
def stub(served: Serving) -> Iterator[pb_grpc.EmbeddingStub]:
    with grpc.insecure_channel(served.address) as channel:
        yield pb_grpc.EmbeddingStub(channel)


def chunk(*texts: Any, model: str = "", truncation: Any = "error") -> pb.EncodeStreamRequest:
    return wire.stream_request(model, [(f"id-{text}", text) for text in texts], truncation)


def stream(
    stub: pb_grpc.EmbeddingStub, requests: Sequence[pb.EncodeStreamRequest]
) -> list[list[EncodedText]]:
    return [wire.stream_results(response) for response in stub.EncodeStream(iter(requests))]


def code_and_details(error: Any) -> tuple[grpc.StatusCode, str]:
    return error.code(), error.details()


def test_encode_answers_as_the_encoder_in_process(served: Serving, stub: pb_grpc.EmbeddingStub) -> None:
    for texts in (["a", "bc"], [[1, 2], [3]], ["a", [1]]):
        response = stub.Encode(wire.encode_request("encoder", texts, "error"))
        rows = wire.encode_result(response)
        assert rows.dtype == np.float16
        assert np.array_equal(rows, served.encoder.encode(texts))
        assert response.fingerprint == DeterministicEncoder.fingerprint


def test_one_bad_text_fails_a_unary_encode(stub: pb_grpc.EmbeddingStub) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stub.Encode(wire.encode_request("", ["a", "bad"], "error"))
    assert code_and_details(raised.value) == (grpc.StatusCode.INVALID_ARGUMENT, "item 1 is 'bad'")


def test_an_encoder_does_not_take_keys(stub: pb_grpc.EmbeddingStub) -> None:
    keys = wire.score_request("", "", [Key("a")], "error", "skip").items
    with pytest.raises(grpc.RpcError) as raised:
        stub.Encode(pb.EncodeRequest(texts=keys))
    assert "texts[0] is neither text nor token ids" in code_and_details(raised.value)[1]


def test_a_stream_answers_each_message_in_order_with_its_ids(
    served: Serving, stub: pb_grpc.EmbeddingStub
) -> None:
    texts = [[f"{row}{column}" for column in range(3)] for row in range(20)]
    results = stream(stub, [chunk(*row) for row in texts])
    assert [[result.id for result in row] for row in results] == [
        [f"id-{text}" for text in row] for row in texts
    ]
    for row, row_results in zip(texts, results, strict=True):
        expected = served.encoder.encode(row)
        assert np.array_equal([result.embeddings for result in row_results], expected)
        assert all(result.status is ItemStatus.OK for result in row_results)


def test_bad_texts_fail_alone_and_the_stream_goes_on(stub: pb_grpc.EmbeddingStub) -> None:
    long = "x" * 101
    first, second = stream(stub, [chunk("a", "bad", "b", long, "c"), chunk("d")])
    assert [result.status.value for result in first] == ["ok", "failed", "ok", "failed", "ok"]
    # Their ids tell which they are: no index among the texts they were retried with.
    assert (first[1].message, first[3].message) == ("is 'bad'", "is longer than 100")
    assert np.isnan(first[1].embeddings).all()
    assert first[4].embeddings[0, 0] == ord("c")
    assert second[0].status is ItemStatus.OK


class QueriesOfTwo(DeterministicEncoder):
    """Encoder of late interaction: a query has two vectors, an item one."""

    def submit_texts(
        self, texts: Any, timeout_s: float | None = None, **options: Any
    ) -> "Future[NDArray[np.floating]]":
        vectors = 2 if options.get("side") == "query" else 1
        return converted(
            super().submit_texts(texts, timeout_s, **options), lambda rows: rows.repeat(vectors, axis=1)
        )


def test_queries_of_other_vectors_than_items_have_stream_as_they_are() -> None:
    encoder = QueriesOfTwo()
    with Server({"late": encoder}, LOCAL) as server, grpc.insecure_channel(server.address) as channel:
        request = wire.stream_request("", [("1", "a"), ("2", "bad"), ("3", "c")], "error", "query")
        [results] = stream(pb_grpc.EmbeddingStub(channel), [request])
    assert [result.status.value for result in results] == ["ok", "failed", "ok"]
    assert [result.embeddings.shape for result in results] == [(2, 3)] * 3
    assert np.isnan(results[1].embeddings).all()
    encoder.close()


def test_the_truncation_of_the_first_message_holds_for_the_stream(stub: pb_grpc.EmbeddingStub) -> None:
    later = chunk("y" * 101)
    later.truncation = pb.TRUNCATION_UNSPECIFIED
    results = stream(stub, [chunk("x" * 101, truncation="truncate"), later])
    assert [result.status for row in results for result in row] == [ItemStatus.OK, ItemStatus.OK]


def test_an_empty_message_has_an_empty_answer(stub: pb_grpc.EmbeddingStub) -> None:
    assert [len(row) for row in stream(stub, [chunk(), chunk("a")])] == [0, 1]


def test_an_answer_comes_before_the_next_message_is_sent(stub: pb_grpc.EmbeddingStub) -> None:
    outbox: queue.Queue[pb.EncodeStreamRequest | None] = queue.Queue()
    responses = stub.EncodeStream(iter(outbox.get, None), timeout=10)
    for text in "abc":
        outbox.put(chunk(text))
        assert wire.stream_results(next(responses))[0].id == f"id-{text}"
    outbox.put(None)
    assert list(responses) == []


def test_no_more_than_the_window_is_worked_on(served: Serving, stub: pb_grpc.EmbeddingStub) -> None:
    worker = served.encoder.worker
    worker.gate.clear()
    responses = stub.EncodeStream(iter([chunk(text) for text in "abcdef"]))
    assert worker.arrived.acquire(timeout=10)
    assert worker.arrived.acquire(timeout=10)
    assert not worker.arrived.acquire(timeout=0.1)
    worker.gate.set()
    assert len(list(responses)) == 6


def test_a_stream_waits_out_an_overload(served: Serving, stub: pb_grpc.EmbeddingStub) -> None:
    served.encoder.overloads_left = 2
    ((result,),) = stream(stub, [chunk("a")])
    assert result.status is ItemStatus.OK
    assert served.encoder.overloads_left == 0


def test_a_unary_encode_does_not_wait_out_an_overload(served: Serving, stub: pb_grpc.EmbeddingStub) -> None:
    served.encoder.overloads_left = 1
    with pytest.raises(grpc.RpcError) as raised:
        stub.Encode(wire.encode_request("", ["a"], "error"))
    assert code_and_details(raised.value)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (
            chunk("b", model="other"),
            "message 2 of the stream: model is 'other', but the stream began with ''",
        ),
        (chunk("b", truncation="truncate"), "message 2 of the stream: truncation is 2, but"),
        (pb.EncodeStreamRequest(), "message 2 of the stream: texts is not set"),
        (
            pb.EncodeStreamRequest(texts=pb.Items(texts=pb.Strings(values=["b"])), ids=["1", "2"]),
            "message 2 of the stream has 2 ids for 1 text",
        ),
    ],
)
def test_a_malformed_message_ends_the_stream_after_the_answers_before_it(
    stub: pb_grpc.EmbeddingStub, second: pb.EncodeStreamRequest, says: str
) -> None:
    responses = stub.EncodeStream(iter([chunk("a"), second]))
    assert wire.stream_results(next(responses))[0].id == "id-a"
    with pytest.raises(grpc.RpcError) as raised:
        next(responses)
    code, details = code_and_details(raised.value)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert says in details


def test_the_work_of_a_cancelled_stream_is_dropped(served: Serving, stub: pb_grpc.EmbeddingStub) -> None:
    worker = served.encoder.worker
    worker.gate.clear()
    responses = stub.EncodeStream(iter([chunk("a"), chunk("b")]))
    for _ in range(2):
        assert worker.arrived.acquire(timeout=10)
    responses.cancel()
    later = stub.Encode.future(wire.encode_request("", ["c"], "error"))
    assert worker.arrived.acquire(timeout=10)
    for _ in range(2):
        assert worker.cancelled.acquire(timeout=60)
    worker.gate.set()
    later.result()
    assert (worker.computed, worker.dropped) == (1, 2)
    assert served.server.counts.snapshot()[Outcome.CANCELLED] == 1
