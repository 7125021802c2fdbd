"""Requests of a load test as the bytes that are sent, made before it begins: read from a file, or drawn from two.

A line: {"prefix": ..., "items": [...]} as in files of judged requests, whose gains are left out, {"texts": [...]}, or
{"history": {...}, "candidates": {...}} as `rankport rank` takes it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankport.exporters.options.bad_lines import read_lines
from rankport.exporters.options.requests_file import parse_items, parse_prefix
from rankport.protos.errors import InvalidRequest
from rankport.protos.messages import set_wire, wire
from rankport.protos.sets import SetQuery, rank_arguments
from rankport.protos.types import Key
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.wording import keys_amiss

SCORE, ENCODE = "/rankport.v1.Scoring/Score", "/rankport.v1.Embedding/Encode"
RANK = "/rankport.v1.SetRanking/Rank"
_UNSCORED = {pb.ITEM_STATUS_NOT_FOUND, pb.ITEM_STATUS_FAILED, pb.ITEM_STATUS_SKIPPED}


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Request as it is sent."""

    method: str  # of gRPC; of HTTP the address says it
    body: bytes
    items: int
    model: str = ""  # that it names


def scored_items(request: LoadRequest, reply: bytes) -> int:
    """Counts the items of an answered request that have a score; all, where the reply does not tell."""
    if request.method != SCORE or not reply:
        return request.items
    outcomes = pb.ScoreResponse.FromString(reply).outcomes
    return request.items - sum(outcome.status in _UNSCORED for outcome in outcomes)


def read_requests(path: Path, model: str = "") -> list[LoadRequest]:
    """Reads requests for gRPC. Raises `InvalidRequest` naming every bad line."""

    def parse(row: object, place: str) -> LoadRequest:
        if not isinstance(row, dict):
            raise InvalidRequest(
                "needs the keys prefix and items, texts, or history and candidates: "
                '{"prefix": "text", "items": ["text"]}'
            )
        if set(row) == {"texts"}:
            return encode_of(row["texts"], model)
        if "history" in row or "candidates" in row:
            return rank_of(row, model)
        if not {"prefix", "items"} <= set(row) <= {"prefix", "items", "gains"}:
            raise InvalidRequest(
                "needs the keys prefix and items (and may have gains), texts, or history and candidates"
                f"{keys_amiss(row, ('prefix', 'items'), ('prefix', 'items', 'gains'))}"
            )
        items = parse_items(row["items"])
        request = wire.score_request(model, parse_prefix(row["prefix"]), items, "truncate", "skip")
        return LoadRequest(SCORE, request.SerializeToString(), len(items), model)

    return read_lines(path, "requests", parse)


def read_bodies(path: Path) -> list[LoadRequest]:
    """Reads bodies for HTTP, a JSON object a line, which are sent as they stand. Raises `InvalidRequest`."""

    def parse(row: object, place: str) -> LoadRequest:
        if not isinstance(row, dict):
            raise InvalidRequest("needs a JSON object, the body of a request")
        lists = [len(value) for value in row.values() if isinstance(value, list)]
        model = row.get("model")
        body = json.dumps(row, ensure_ascii=False).encode()
        return LoadRequest("POST", body, max(lists, default=0), model if isinstance(model, str) else "")

    return read_lines(path, "requests", parse)


def encode_of(texts: object, model: str) -> LoadRequest:
    """Makes a request to encode. Raises `InvalidRequest` for what is no list of texts."""
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("texts must be a list of at least one text")
    request = wire.encode_request(model, texts, "truncate", None)
    return LoadRequest(ENCODE, request.SerializeToString(), len(texts), model)


def rank_of(row: Mapping[str, object], model: str) -> LoadRequest:
    """Makes a request that ranks a set. Raises `InvalidRequest` naming the part at fault."""
    query = SetQuery.of(**rank_arguments({name: value for name, value in row.items() if name != "id"}))
    request = set_wire.rank_request(model, query)
    return LoadRequest(RANK, request.SerializeToString(), query.candidates.rows, model)


def drawn_requests(
    prefixes: Sequence[str],
    items: Sequence[str],
    per_request: int,
    *,
    keys: bool,
    model: str,
    seed: int,
    count: int,
) -> list[LoadRequest]:
    """Draws `count` requests: a prefix each, and `per_request` items without repetition, or all there are."""
    if not prefixes or not items:
        raise InvalidRequest("there is nothing to draw: give at least one prefix and one item")
    draw = np.random.default_rng(seed)
    given = [Key(item) for item in items] if keys else list(items)
    requests = []
    for _ in range(count):
        chosen = draw.choice(len(given), min(per_request, len(given)), replace=False)
        prefix = prefixes[int(draw.integers(len(prefixes)))]
        message = wire.score_request(model, prefix, [given[place] for place in chosen], "truncate", "skip")
        requests.append(LoadRequest(SCORE, message.SerializeToString(), len(chosen), model))
    return requests
