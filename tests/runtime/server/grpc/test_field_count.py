"""Fields and packed numbers are counted on the wire as a parser would find them."""

from typing import Any

import grpc
import numpy as np
import pytest

from rankport.protos.messages import tag_wire, wire
from rankport.protos.types import Key
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.grpc.field_count import has_more
from support.servers.serving import serving
from support.servers.statuses import refusal


def score(items: Any) -> pb.ScoreRequest:
    return wire.score_request("ranker", "q", items, "error", "skip")


@pytest.mark.parametrize(
    ("message", "fields", "numbers"),
    [
        # model, prefix and its text, items and the form, options, then what the items are
        (score(["a", "", "c"]), 7 + 3, 0),
        (score([Key("a")]), 7 + 1, 0),
        (score([[1, 300, 2**40], []]), 7 + 2, 5),
        (score(np.ones((4, 1, 3), np.float16)), 7 + 3, 3),
        (score(["a", [1, 2], np.ones((1, 3), np.float32)]), 7 + 3 + 1 + (1 + 1) + (1 + 3), 2 + 2),
        (tag_wire.tag_request("m", [["New", "York"], ["x"]], "error", 3), 4 + 3 + 1, 2),
    ],
)
def test_what_a_message_holds_is_counted(message: Any, fields: int, numbers: int) -> None:
    data = message.SerializeToString()
    assert not has_more(data, message.DESCRIPTOR, fields, numbers)
    assert has_more(data, message.DESCRIPTOR, fields - 1, numbers)
    assert not numbers or has_more(data, message.DESCRIPTOR, fields, numbers - 1)


def length_delimited(number: int, data: bytes) -> bytes:
    """A field of up to 2**21 bytes."""
    size = len(data)
    return bytes([number << 3 | 2, size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + data


EMPTY_TEXTS = length_delimited(3, length_delimited(1, b"\x0a\x00" * 20_000))
EMPTY_ITEMS = length_delimited(3, length_delimited(5, b"\x0a\x00" * 20_000))
ZEROS = length_delimited(3, length_delimited(4, length_delimited(1, bytes(40_000))))
MANY_NAMES = b"\x3a\x00" * 20_000


@pytest.mark.parametrize("data", [EMPTY_TEXTS, EMPTY_ITEMS, ZEROS, MANY_NAMES, b"\x18\x00" * 20_000])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_message_of_many_small_parts_is_refused_before_it_is_parsed(data: bytes, cut: int) -> None:
    assert has_more(data[: len(data) - cut], pb.ScoreRequest.DESCRIPTOR, 10_000, 20_000)


@pytest.mark.parametrize(
    "data", [b"\xff" * 50, b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x0b\x0c", b"\x1a"]
)
def test_what_is_no_message_ends(data: bytes) -> None:
    assert not has_more(data, pb.ScoreRequest.DESCRIPTOR, 10, 10)


def test_a_server_refuses_it_and_reads_what_is_large_for_good_reason() -> None:
    config = ServerConfig(port=0, max_request_items=10)
    with serving(config) as served, grpc.insecure_channel(served.address) as channel:
        call = channel.unary_unary("/rankport.v1.Scoring/Score")
        for data in (EMPTY_TEXTS, EMPTY_ITEMS):
            refused = refusal(lambda data=data: call(data, timeout=10))  # type: ignore[misc]
            assert refused.name == "LimitExceeded"
            assert "more than 10040 fields, this server takes 10 items" in refused.message
        large = score(["x" * 100_000]).SerializeToString()
        response = pb.ScoreResponse.FromString(call(large, timeout=10))
        assert len(wire.score_result(response).scores) == 1
        assert "cannot be parsed" in refusal(lambda: call(large[:-30_000], timeout=10)).message
