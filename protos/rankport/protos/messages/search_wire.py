"""Requests and responses of Search <-> the values of `generation`, for server and client alike. Strict, as `wire`."""

from dataclasses import dataclass, fields

import numpy as np

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import GenerateUsage, SearchResult
from rankport.protos.messages.items import prefix_message, prefix_value
from rankport.protos.messages.wire_parts import TRUNCATION, enum_code, enum_value, message_of, one_message
from rankport.protos.types import Prefix, Truncation
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.wording import counted

BEAMS, TOP_K = 32, 10
_USAGE = tuple(field.name for field in fields(GenerateUsage))


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """Arguments of `Generator.search` that a request carries."""

    prompt: Prefix
    trie: str  # by name
    beams: int
    top_k: int
    truncation: Truncation


@one_message
def search_request(
    model: str, prompt: Prefix, trie: str, beams: int, top_k: int, truncation: Truncation
) -> pb.SearchRequest:
    """Writes `Generator.search`'s arguments as a message; `InvalidRequest` if one does not fit the wire."""
    if not isinstance(trie, str):
        raise InvalidRequest(f"trie is {trie!r:.40}: name one that the server has")
    return message_of(
        pb.SearchRequest,
        model=model,
        prefix=prefix_message(prompt),
        truncation=enum_code(TRUNCATION, truncation, "truncation"),
        trie=trie,
        beams=beams,
        top_k=top_k,
    )


def search_query(request: pb.SearchRequest) -> SearchQuery:
    """Reads what a request asks for; `InvalidRequest` if it is malformed."""
    return SearchQuery(
        prefix_value(request.prefix),
        request.trie,
        request.beams if request.HasField("beams") else BEAMS,
        request.top_k if request.HasField("top_k") else TOP_K,
        enum_value(TRUNCATION, request.truncation, "truncation"),
    )


def search_response(result: SearchResult, fingerprint: str) -> pb.SearchResponse:
    """Writes what was found."""
    return pb.SearchResponse(
        keys=result.keys,
        scores=result.scores.tolist(),
        token_ids=result.token_ids.reshape(-1).tolist(),
        usage=pb.GenerateUsage(**{name: getattr(result.usage, name) for name in _USAGE}),
        fingerprint=fingerprint,
    )


def search_result(response: pb.SearchResponse) -> SearchResult:
    """Reads what was found; `InvalidRequest` for columns of different lengths."""
    keys, scores = tuple(response.keys), np.array(response.scores, np.float64)
    tokens = np.array(response.token_ids, np.int64)
    if len(scores) != len(keys) or (len(tokens) % len(keys) if keys else len(tokens)):
        raise InvalidRequest(
            f"{counted(len(keys), 'key')} with {counted(len(scores), 'score')} and {len(tokens)} token_ids"
        )
    usage = GenerateUsage(**{name: getattr(response.usage, name) for name in _USAGE})
    return SearchResult(keys, tokens.reshape(len(keys), -1) if keys else tokens.reshape(0, 0), scores, usage)
