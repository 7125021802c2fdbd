"""Tag over gRPC: what a tagger answers in process, in the units of any language, and refusals by name."""

import asyncio
from collections.abc import Iterator
from dataclasses import fields

import grpc
import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, LimitExceeded, NotFound
from rankport.protos.tagging import TagResult
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.kinds.tagger.tagger import Tagger
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from rankport.sdk import AsyncClient, Client
from support.reading.taggers import LabelledTokens, labels_of, tagger_bundle, tagger_of

LABELS = {"New": "B-city", "York": "I-city", "sushi": "B-food", "Ghent": "B-city"}
EMOJI = "👩‍🍳 né sushi in New York"
LONG = "the of and to in New York is on that by this with Ghent the sushi of"


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tagger]:
    backend = LabelledTokens(labels_of("word-piece", LABELS))
    with tagger_of(tagger_bundle(tmp_path_factory.mktemp("tagger")), backend) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def address(tagger: Tagger) -> Iterator[str]:
    with Server({"slots": tagger}, ServerConfig(port=0)) as server:
        yield server.address


def assert_equal(remote: TagResult, local: TagResult) -> None:
    """Compares all but the seconds."""
    for field in fields(TagResult):
        own, other = getattr(remote, field.name), getattr(local, field.name)
        if field.name == "usage":
            assert own.item_tokens == other.item_tokens
        elif field.name == "words" and other is not None:
            for part in fields(other):
                np.testing.assert_array_equal(getattr(own, part.name), getattr(other, part.name))
        else:
            np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        ([EMOJI, "", "sushi"], {}),
        ([["New", "York", "", "👩‍🍳"], [], ["sushi"]], {}),
        ([LONG, "Ghent"], {"truncation": "windows", "stride": 4}),
        ([LONG, "Ghent"], {"truncation": "truncate"}),
        ([], {}),
    ],
)
def test_both_clients_answer_as_the_tagger(
    address: str, tagger: Tagger, texts: list[str], options: dict[str, object]
) -> None:
    async def remotely() -> TagResult:
        async with AsyncClient(address, timeout_s=10) as client:
            return await client.tag(texts, **options)  # type: ignore[arg-type]

    expected = tagger.tag(texts, **options)  # type: ignore[arg-type]
    with Client(address, timeout_s=10) as client:
        assert_equal(client.tag(texts, **options), expected)  # type: ignore[arg-type]
    assert_equal(asyncio.run(remotely()), expected)


@pytest.mark.parametrize(
    ("unit", "encoding", "bytes_a_unit"),
    [
        (pb.TEXT_UNIT_UTF16, "utf-16-le", 2),
        (pb.TEXT_UNIT_UTF8, "utf-8", 1),
        (pb.TEXT_UNIT_CODE_POINTS, "utf-32-le", 4),
    ],
)
def test_places_are_counted_as_the_caller_asks(
    address: str, unit: int, encoding: str, bytes_a_unit: int
) -> None:
    """An emoji is one code point, a surrogate pair in UTF-16, four bytes in UTF-8."""
    with grpc.insecure_channel(address) as channel:
        request = pb.TagRequest(texts=pb.Strings(values=["sushi", EMOJI]), unit=unit)  # type: ignore[arg-type]
        response = pb_grpc.TaggingStub(channel).Tag(request, timeout=10)
    data = EMOJI.encode(encoding)
    assert list(response.counts) == [1, 2]
    found = [
        (data[start * bytes_a_unit : end * bytes_a_unit].decode(encoding), response.names[label])
        for start, end, label in list(zip(response.starts, response.ends, response.labels, strict=True))[1:]
    ]
    assert found == [("sushi", "food"), ("New York", "city")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "form is not set; give texts or words"),
        ({"words": pb.RaggedWords(words=["a"], counts=[2])}, r"words\.counts add up to 2"),
        ({"words": pb.RaggedWords(words=["a"], counts=[2, -1])}, r"one is below 0; there is 1 word"),
        ({"texts": pb.Strings(values=["a"]), "unit": 9}, "unit is 9; this version knows"),
        ({"texts": pb.Strings(values=["a"]), "truncation": 9}, "truncation is 9; this version knows"),
        ({"texts": pb.Strings(values=["a"]), "truncation": 3, "stride": -1}, "stride is -1"),
    ],
)
def test_malformed_requests_are_refused_by_field(
    address: str, change: dict[str, object], message: str
) -> None:
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError, match=message) as refused:
        pb_grpc.TaggingStub(channel).Tag(pb.TagRequest(**change), timeout=10)  # type: ignore[arg-type]
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]


def test_errors_are_those_of_the_tagger(address: str) -> None:
    with Client(address, timeout_s=10) as client:
        with pytest.raises(LimitExceeded, match=r"texts\[0\]: \d+ tokens, the model reads 12"):
            client.tag([LONG])
        with pytest.raises(InvalidRequest, match="half of a character"):
            client.tag(["\ud83c"])
        with pytest.raises(InvalidRequest, match=r"stride is 2\.5"):
            client.tag(["a"], truncation="windows", stride=2.5)  # type: ignore[arg-type]
        with pytest.raises(NotFound, match="names no model that scores"):
            client.score("query", ["item"])
        assert client.describe().kind == "tagger"
