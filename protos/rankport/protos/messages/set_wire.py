"""Requests and responses of Rank <-> the values of `sets`, for server and client alike. Strict, as `wire`."""

from collections.abc import Iterable

import numpy as np

from rankport.protos.errors import InvalidRequest
from rankport.protos.messages.tensors import float32_array, tensor_array, tensor_message
from rankport.protos.messages.wire_parts import one_message, usage_message, usage_value
from rankport.protos.sets import SetColumn, SetColumns, SetQuery, SetRanking
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.wording import counted


@one_message
def rank_request(model: str, query: SetQuery) -> pb.RankRequest:
    """Writes a query as a message."""
    return pb.RankRequest(
        model=model,
        history=_columns(query.history, "history"),
        candidates=_columns(query.candidates, "candidates"),
        times=None if query.times is None else query.times.tolist(),
        now=query.now,
        sessions=None if query.sessions is None else query.sessions.tolist(),
        head_weights=query.head_weights,
        top_k=query.top_k,
    )


def rank_query(request: pb.RankRequest) -> SetQuery:
    """Reads what a request asks for; `InvalidRequest` if it is malformed."""
    return SetQuery.of(
        _read(request.history, "history"),
        _read(request.candidates, "candidates"),
        dict(request.head_weights) or None,
        request.top_k if request.HasField("top_k") else None,
        times=np.array(request.times, np.int64) if request.times else None,
        now=request.now if request.HasField("now") else None,
        sessions=np.array(request.sessions, np.int64) if request.sessions else None,
    )


def rank_response(ranking: SetRanking) -> pb.RankResponse:
    """Writes an answer as a message."""
    return pb.RankResponse(
        fingerprint=ranking.fingerprint,
        scores=tensor_message(ranking.scores, "scores"),
        head_scores=tensor_message(ranking.head_scores, "head_scores"),
        heads=ranking.heads,
        order=ranking.order.tolist(),
        usage=usage_message(ranking.usage),
    )


def set_ranking(response: pb.RankResponse) -> SetRanking:
    """Reads an answer; `InvalidRequest` if its parts do not fit each other."""
    scores = float32_array(response.scores, "scores", 1)
    head_scores = float32_array(response.head_scores, "head_scores", 2)
    heads, order = tuple(response.heads), np.array(response.order, np.int64)
    if head_scores.shape != (len(scores), len(heads)):
        raise InvalidRequest(
            f"head_scores is {list(head_scores.shape)}, with {counted(len(scores), 'score')} and {len(heads)} heads"
        )
    if len(order) and not 0 <= order.min() <= order.max() < len(scores):
        raise InvalidRequest(f"order names a place outside of the {counted(len(scores), 'candidate')}")
    return SetRanking(scores, head_scores, heads, order, response.fingerprint, usage_value(response.usage))


def _columns(given: SetColumns, side: str) -> list[pb.FeatureColumn]:
    return [_column(name, column, side) for name, column in given.columns.items()]


def _column(name: str, column: SetColumn, side: str) -> pb.FeatureColumn:
    if isinstance(column, tuple):
        return pb.FeatureColumn(name=name, keys=pb.Strings(values=column))
    if column.dtype == np.int64:
        return pb.FeatureColumn(name=name, ids=pb.Integers(values=column.tolist()))
    if column.dtype == np.uint64:
        return pb.FeatureColumn(name=name, unsigned_ids=pb.UnsignedIntegers(values=column.tolist()))
    return pb.FeatureColumn(name=name, values=tensor_message(column.astype(np.float32), f"{side}[{name!r}]"))


def _read(columns: Iterable[pb.FeatureColumn], side: str) -> SetColumns:
    read: dict[str, SetColumn] = {}
    for column in columns:
        if column.name in read:
            raise InvalidRequest(f"{side} has the feature {column.name!r} twice")
        read[column.name] = _value(column, f"{side}[{column.name!r}]")
    return SetColumns.of(read, side)


def _value(column: pb.FeatureColumn, where: str) -> SetColumn:
    match column.WhichOneof("form"):
        case "ids":
            return np.array(column.ids.values, np.int64)
        case "unsigned_ids":
            return np.array(column.unsigned_ids.values, np.uint64)
        case "keys":
            return tuple(column.keys.values)
        case "values":
            return tensor_array(column.values, where).astype(np.float32, copy=False)
        case _:
            raise InvalidRequest(f"{where} has no values: set ids, unsigned_ids, values or keys")
