"""Sizes of requests as their messages state them, before anything is read or made of them.

What a shape claims is counted as claimed: `tensors` refuses a shape that its bytes do not bear out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rankport.protos.v1 import rankport_pb2 as pb

Request = (
    pb.ScoreRequest
    | pb.ScoreStreamRequest
    | pb.EncodeRequest
    | pb.EncodeStreamRequest
    | pb.LookupRequest
    | pb.ClassifyRequest
    | pb.TagRequest
    | pb.GenerateRequest
    | pb.SearchRequest
    | pb.RankRequest
)


@dataclass(frozen=True, slots=True)
class RequestSize:
    """Size of one request."""

    items: int  # or texts
    tokens: int  # that are in the message: ids, words, embedding tokens; texts are not tokenized yet

    def __add__(self, other: "RequestSize") -> "RequestSize":
        return RequestSize(self.items + other.items, self.tokens + other.tokens)


def request_size(request: Request) -> RequestSize:
    """Counts items and tokens of a request."""
    match request:
        case pb.ScoreRequest():
            return _items_size(request.items) + _prefix_size(request.prefix)
        case pb.ClassifyRequest():
            texts, firsts = _items_size(request.texts), _items_size(request.first_texts)
            pairs = RequestSize(max(texts.items, firsts.items), texts.tokens + firsts.tokens)
            return pairs + _prefix_size(request.prefix)
        case pb.TagRequest():
            return _tag_size(request)
        case pb.LookupRequest():
            return RequestSize(len(request.keys), 0)
        case pb.GenerateRequest():
            return RequestSize(1, request.max_tokens) + _prefix_size(request.prefix)
        case pb.SearchRequest():
            return RequestSize(1, request.beams) + _prefix_size(request.prefix)
        case pb.RankRequest():
            events, candidates = _rows(request.history), _rows(request.candidates)
            return RequestSize(candidates, events + candidates)
        case pb.ScoreStreamRequest():
            return request_size(request.request)
        case _:
            return _items_size(request.texts)


def _items_size(message: pb.Items) -> RequestSize:
    match message.WhichOneof("form"):
        case "texts":
            return RequestSize(len(message.texts.values), 0)
        case "keys":
            return RequestSize(len(message.keys.values), 0)
        case "keyed_texts":
            return RequestSize(max(len(message.keyed_texts.keys), len(message.keyed_texts.texts)), 0)
        case "embeddings":
            shape = message.embeddings.shape
            return RequestSize(shape[0], shape[0] * shape[1]) if len(shape) > 1 else RequestSize(0, 0)
        case "token_ids":
            return RequestSize(len(message.token_ids.lengths), len(message.token_ids.ids))
        case "mixed":
            return RequestSize(len(message.mixed.items), 0)
        case _:
            return RequestSize(0, 0)


def _prefix_size(message: pb.Prefix) -> RequestSize:
    return RequestSize(0, len(message.token_ids.ids))


def _tag_size(request: pb.TagRequest) -> RequestSize:
    if request.WhichOneof("form") == "words":
        return RequestSize(len(request.words.counts), len(request.words.words))
    return RequestSize(len(request.texts.values), 0)


def _rows(columns: Iterable[pb.FeatureColumn]) -> int:
    return max(map(_length, columns), default=0)


def _length(column: pb.FeatureColumn) -> int:
    match column.WhichOneof("form"):
        case "ids":
            return len(column.ids.values)
        case "unsigned_ids":
            return len(column.unsigned_ids.values)
        case "keys":
            return len(column.keys.values)
        case _:
            return column.values.shape[0] if column.values.shape else 0
