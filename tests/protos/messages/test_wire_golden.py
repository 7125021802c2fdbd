"""The bytes of version 1: these may never change, or old clients break."""

import numpy as np

from rankport.protos.messages import wire
from rankport.protos.types import ItemStatus, Key, ScoreResult, Usage
from rankport.protos.v1 import rankport_pb2 as pb

REQUEST = wire.score_request(
    "ranker",
    {"query": "nurse"},
    ["text", [5, 300], np.array([[1.0, -2.0]], np.float16), Key("sku-1")],
    "truncate",
    "fail",
)
REQUEST_BYTES = (
    "0a0672616e6b6572121212100a0e0a05717565727912056e757273651a2c2a2a0a060a04746578740a071205"
    "0a0305ac020a0e1a0c0802120201021a04003c00c00a072205736b752d3120022802"
)

COLUMNS = {
    "texts": (["a", "b"], "0a060a01610a0162"),
    "keys": ([Key("a"), Key("b")], "12060a01610a0162"),
    "embeddings": (np.array([[[1.0]], [[2.0]]], np.float32), "1a11080112030201011a080000803f00000040"),
    "token_ids": ([[1, 2], [300]], "220a0a040102ac0212020201"),
}

RESULT = ScoreResult(
    scores=np.array([0.5, np.nan], np.float32),
    logits=np.array([[1.0, 1.0], [np.nan, np.nan]], np.float32),
    status=(ItemStatus.TRUNCATED, ItemStatus.NOT_FOUND),
    messages=("", "no such key"),
    usage=Usage(1, 2, 3, 0.25, 0.5, 1.0),
    fingerprint="ab12",
    score_kind="logit",
    read_out="logit of yes",
)
RESPONSE_BYTES = (
    "0a0461623132120f08011201021a080000003f0000c07f1a180801120202021a100000803f0000803f0000c0"
    "7f0000c07f220210022211080110031a0b6e6f2073756368206b65792a2108011002180321000000000000d03f29"
    "000000000000e03f31000000000000f03f32056c6f6769743a0c6c6f676974206f6620796573"
)


def test_a_score_request_has_these_bytes() -> None:
    assert REQUEST.SerializeToString().hex() == REQUEST_BYTES


def test_each_column_of_items_has_these_bytes() -> None:
    for form, (items, golden) in COLUMNS.items():
        request = wire.score_request("", "", items, "error", "skip")
        assert request.items.WhichOneof("form") == form
        assert request.items.SerializeToString().hex() == golden, form


def test_a_score_response_has_these_bytes() -> None:
    assert wire.score_response(RESULT).SerializeToString().hex() == RESPONSE_BYTES


def test_the_golden_request_still_reads_as_it_was_meant() -> None:
    query = wire.score_query(pb.ScoreRequest.FromString(bytes.fromhex(REQUEST_BYTES)))
    text, ids, embeddings, key = query.items
    assert query.prefix == {"query": "nurse"}
    assert (text, list(ids), key) == ("text", [5, 300], Key("sku-1"))
    assert embeddings.tolist() == [[1.0, -2.0]]
    assert (query.truncation, query.on_missing) == ("truncate", "fail")
