"""A request's size is what its message states, counted before anything is made of it."""

from typing import Any

import numpy as np
import pytest

from rankport.protos.messages import class_wire, set_wire, tag_wire, wire
from rankport.protos.messages.request_size import Request, RequestSize, request_size
from rankport.protos.sets import SetQuery
from rankport.protos.types import Key
from rankport.protos.v1 import rankport_pb2 as pb


def score(items: object, prefix: object = "q") -> pb.ScoreRequest:
    return wire.score_request("", prefix, items, "error", "skip")  # type: ignore[arg-type]


def rank(history: dict[str, Any], candidates: dict[str, Any]) -> pb.RankRequest:
    return set_wire.rank_request("", SetQuery.of(history, candidates))


HOSTILE = pb.Items(embeddings=pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[2**40, 3, 0]))


@pytest.mark.parametrize(
    ("request_", "items", "tokens"),
    [
        (score(["a", "b"]), 2, 0),
        (score([Key("a")]), 1, 0),
        (score(np.ones((5, 3, 2), np.float32)), 5, 15),
        (score([[1, 2], [3]], prefix=[7, 8, 9, 10]), 2, 7),
        (score(["a", [1, 2]]), 2, 0),  # mixed ones are counted once they are read
        (score([]), 0, 0),
        (pb.ScoreRequest(items=HOSTILE), 2**40, 3 * 2**40),
        (pb.ScoreRequest(items=pb.Items(embeddings=pb.Tensor(shape=[7]))), 0, 0),
        (pb.EncodeRequest(texts=HOSTILE), 2**40, 3 * 2**40),
        (pb.ScoreRequest(items=pb.Items(keyed_texts=pb.KeyedTexts(keys=["a"], texts=["x", "y"]))), 2, 0),
        (pb.LookupRequest(keys=["a", "b"]), 2, 0),
        (pb.ScoreStreamRequest(request=score([[1, 2], [3]])), 2, 3),
        (wire.stream_request("", [("a", "x"), ("b", [1, 2])], "error"), 2, 0),
        (class_wire.classify_request("", [("a", "b")] * 3, None, "error"), 3, 0),
        (class_wire.classify_request("", [[1, 2], [3]], [4], "error"), 2, 4),
        (rank({"a": [1, 2]}, {"b": [1, 2, 3]}), 3, 5),
        (rank({"a": [2**64 - 1] * 4}, {"b": [2**63, 1]}), 2, 6),
        (rank({"a": ["x"]}, {"b": np.ones((4, 2))}), 4, 5),
        (tag_wire.tag_request("", [["New", "York"], ["x"]], "error", None), 2, 3),
        (tag_wire.tag_request("", ["New York"], "error", None), 1, 0),
    ],
)
def test_items_and_tokens_are_those_stated(request_: Request, items: int, tokens: int) -> None:
    assert request_size(request_) == RequestSize(items, tokens)


def test_first_texts_without_seconds_count_too() -> None:
    request = pb.ClassifyRequest(texts=pb.Items(texts=pb.Strings()), first_texts=score(["a"] * 9).items)
    assert request_size(request).items == 9
