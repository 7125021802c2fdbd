"""Requests of a load test are the messages that a client sends."""

from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.protos.messages import set_wire, wire
from rankport.protos.sets import SetQuery
from rankport.protos.types import Key
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.sdk.loadtest.requests import (
    ENCODE,
    RANK,
    SCORE,
    drawn_requests,
    read_bodies,
    read_requests,
    scored_items,
)


def written(folder: Path, *lines: str) -> Path:
    file = folder / "requests.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_lines_become_messages(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '{"prefix": {"query": "näh"}, "items": ["a", {"key": "k"}], "gains": [1, 0]}',
        '{"texts": ["one", "two", "three"]}',
    )
    score, encode = read_requests(file, "jobs")
    assert (score.method, score.items, encode.method, encode.items) == (SCORE, 2, ENCODE, 3)
    expected = wire.score_request("jobs", {"query": "näh"}, ["a", Key("k")], "truncate", "skip")
    assert score.body == expected.SerializeToString()
    assert pb.EncodeRequest.FromString(encode.body).model == "jobs"


def test_items_that_have_a_score_are_counted_in_the_reply() -> None:
    (request,) = drawn_requests(["q"], list("abcdef"), 6, keys=True, model="", seed=0, count=1)
    known = (
        pb.ITEM_STATUS_NOT_FOUND,
        pb.ITEM_STATUS_FAILED,
        pb.ITEM_STATUS_SKIPPED,
        pb.ITEM_STATUS_TRUNCATED,
    )
    outcomes = [pb.ItemOutcome(index=place, status=status) for place, status in enumerate(known)]
    assert scored_items(request, pb.ScoreResponse(outcomes=outcomes).SerializeToString()) == 3
    assert scored_items(request, b"") == 6  # over HTTP


def test_a_line_that_ranks_a_set_is_the_message_of_the_client(tmp_path: Path) -> None:
    row = (
        '{"id": 7, "history": {"r": [1.5, null]}, "candidates": {"m": [3, 4, 5]}, "times": [1, 2], "now": 3}'
    )
    (rank,) = read_requests(written(tmp_path, row), "sets")
    query = SetQuery.of({"r": [1.5, float("nan")]}, {"m": [3, 4, 5]}, times=[1, 2], now=3)
    assert (rank.method, rank.items) == (RANK, 3)
    assert rank.body == set_wire.rank_request("sets", query).SerializeToString()
    for bad, told in (
        ('{"history": {}}', "must be an object with history and candidates"),
        ('{"history": {}, "candidates": {"m": [1]}, "top_k": 0}', "top_k is 0"),
    ):
        with pytest.raises(InvalidRequest, match=told):
            read_requests(written(tmp_path, bad))


def test_all_bad_lines_are_named(tmp_path: Path) -> None:
    file = written(tmp_path, '{"prefix": "q"}', '{"texts": "one"}', "[]")
    with pytest.raises(InvalidRequest) as raised:
        read_requests(file)
    assert "3 of 3 lines cannot be used" in str(raised.value)
    assert "needs the keys prefix and items" in str(raised.value)
    assert "texts must be a list of at least one text" in str(raised.value)


def test_bodies_are_sent_as_they_stand(tmp_path: Path) -> None:
    (body,) = read_bodies(written(tmp_path, '{"query": "ä",  "documents": ["x", "y"]}'))
    assert body.body == '{"query": "ä", "documents": ["x", "y"]}'.encode()
    assert body.items == 2


def test_drawn_requests_have_distinct_items_and_come_again_with_their_seed() -> None:
    items = [f"k{number}" for number in range(9)]
    requests = drawn_requests(["p", "q"], items, 5, keys=True, model="", seed=3, count=20)
    asked = [wire.score_query(pb.ScoreRequest.FromString(request.body)).items.keys for request in requests]
    keys = [column.values for column in asked if column is not None]
    assert len(keys) == 20
    assert all(len(set(chosen)) == 5 for chosen in keys)
    assert len({tuple(chosen) for chosen in keys}) > 10
    assert requests == drawn_requests(["p", "q"], items, 5, keys=True, model="", seed=3, count=20)


def test_there_must_be_something_to_draw() -> None:
    with pytest.raises(InvalidRequest, match="give at least one prefix and one item"):
        drawn_requests(["p"], [], 5, keys=False, model="", seed=0, count=1)
