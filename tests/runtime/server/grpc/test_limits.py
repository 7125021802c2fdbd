"""Limits of one request, and the details that a refusal comes with."""

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from rankport.protos import errors
from rankport.protos.messages import wire
from rankport.protos.types import Key
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import Outcome
from rankport.sdk import Client
from support.servers.serving import Serving, serving
from support.servers.statuses import refusal

LIMITS = ServerConfig(port=0, max_request_items=10, max_request_tokens=20, max_message_bytes=4096)


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    with serving(LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def channel(served: Serving) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.address) as channel:
        yield channel


def score(items: Any, prefix: Any = "q") -> pb.ScoreRequest:
    return wire.score_request("", prefix, items, "error", "skip")


def embeddings(*shape: int) -> pb.Items:
    return pb.Items(embeddings=pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=shape))


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (score(["a"] * 11), "the request has 11 items, this server takes 10 (max_request_items)"),
        (score([Key("a")] * 11), "the request has 11 items"),
        (score([[1]] * 11), "the request has 11 items"),
        (score(["a", [1]] * 6), "the request has 12 items"),
        (
            pb.ScoreRequest(prefix=pb.Prefix(text="q"), items=embeddings(2**40, 0, 384)),
            "has 1099511627776 items",
        ),
        (score([[1] * 21]), "the request has 21 tokens, this server takes 20 (max_request_tokens)"),
        (score(["a"], prefix=[1] * 21), "the request has 21 tokens"),
        (score(np.ones((3, 7, 3), np.float32)), "the request has 21 tokens"),
        (score(["x" * 5000]), "bytes, this server takes 4096 a message (max_message_bytes)"),
    ],
)
def test_a_request_over_a_limit_is_refused_by_value_and_limit(
    served: Serving, channel: grpc.Channel, request_: pb.ScoreRequest, says: str
) -> None:
    before = served.ranker.worker.computed
    refused = refusal(lambda: pb_grpc.ScoringStub(channel).Score(request_, timeout=10))
    assert (refused.code, refused.name) == (grpc.StatusCode.INVALID_ARGUMENT, "LimitExceeded")
    assert says in refused.message
    assert refused.retry_s is None
    assert served.ranker.worker.computed == before


def test_each_method_keeps_the_limits(channel: grpc.Channel) -> None:
    many = pb.Items(texts=pb.Strings(values=["a"] * 11))
    calls = [
        lambda: pb_grpc.EmbeddingStub(channel).Encode(pb.EncodeRequest(texts=many)),
        lambda: list(pb_grpc.EmbeddingStub(channel).EncodeStream(iter([pb.EncodeStreamRequest(texts=many)]))),
        lambda: pb_grpc.ClassificationStub(channel).Classify(pb.ClassifyRequest(texts=many)),
        lambda: pb_grpc.TaggingStub(channel).Tag(pb.TagRequest(texts=many.texts)),
    ]
    for call in calls:
        assert "the request has 11 items" in refusal(call).message


def test_the_limits_are_told(channel: grpc.Channel) -> None:
    limits = pb_grpc.ModelsStub(channel).List(pb.ListModelsRequest()).limits
    assert limits == pb.RequestLimits(items=10, tokens=20, message_bytes=4096)


def test_rows_without_values_are_refused_where_no_limit_is_met(channel: grpc.Channel) -> None:
    request = pb.ScoreRequest(prefix=pb.Prefix(text="q"), items=embeddings(7, 0, 384))
    refused = refusal(lambda: pb_grpc.ScoringStub(channel).Score(request, timeout=10))
    assert refused.name == "InvalidRequest"
    assert refused.fields == ["items.embeddings.shape"]


def test_an_answer_that_is_too_large_is_refused_before_it_is_computed() -> None:
    config = ServerConfig(port=0, max_message_bytes=50)  # an answer has 6 bytes a text
    with serving(config) as served, grpc.insecure_channel(served.address) as channel:
        request = pb.EncodeRequest(texts=pb.Items(texts=pb.Strings(values=["a"] * 9)))
        refused = refusal(lambda: pb_grpc.EmbeddingStub(channel).Encode(request))
        assert "the answer has 54 bytes, this server takes 50" in refused.message
        assert served.encoder.worker.computed == 0
        # What only the answer itself shows: scores, fingerprint and usage have more.
        refused = refusal(lambda: pb_grpc.ScoringStub(channel).Score(score(["a"])))
        assert (refused.code, refused.name) == (grpc.StatusCode.INVALID_ARGUMENT, "LimitExceeded")
        assert "the answer has" in refused.message


def test_a_size_that_grpc_itself_refuses_does_not_look_like_an_overload(served: Serving) -> None:
    huge = score(["x" * 10_000])  # over twice the limit
    with grpc.insecure_channel(served.address) as channel:
        refused = refusal(lambda: pb_grpc.ScoringStub(channel).Score(huge, timeout=10))
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.name == ""
    assert refused.trailers.keys().isdisjoint(("grpc-retry-pushback-ms", "grpc-status-details-bin"))
    with Client(served.address) as client, pytest.raises(errors.LimitExceeded, match="send fewer items"):
        client.score("q", ["x" * 10_000], timeout_s=10)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ScoreRequest(prefix=pb.Prefix(text="q")), "items"),
        (pb.ScoreRequest(items=pb.Items(texts=pb.Strings())), "prefix"),
        (score(["a"]), "items[3]"),
    ],
)
def test_a_malformed_request_names_its_field(
    served: Serving, channel: grpc.Channel, request_: pb.ScoreRequest, field: str
) -> None:
    served.ranker.refuse_with = errors.InvalidRequest("item 3: a token id is negative")
    refused = refusal(lambda: pb_grpc.ScoringStub(channel).Score(request_))
    served.ranker.refuse_with = None
    assert refused.fields == [field]
    assert (refused.info.reason, refused.info.domain) == ("InvalidRequest", "rankport")


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x02\xff\xfe", b"\x12\x7f"], ids=["tag", "no UTF-8", "cut"])
def test_bytes_that_are_no_message_are_the_callers_fault(
    served: Serving, channel: grpc.Channel, data: bytes
) -> None:
    before = served.server.counts.snapshot()[Outcome.INVALID]
    score = channel.unary_unary("/rankport.v1.Scoring/Score")
    stream = channel.stream_stream("/rankport.v1.Embedding/EncodeStream")
    for call in (lambda: score(data, timeout=10), lambda: list(stream(iter([data]), timeout=10))):
        refused = refusal(call)
        assert (refused.code, refused.name) == (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")
        assert "cannot be parsed" in refused.message
    assert served.server.counts.snapshot()[Outcome.INVALID] == before + 2
