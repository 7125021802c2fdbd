"""Requests and responses of the gRPC API <-> the values of `types`, for server and client alike.

Strict both ways: what does not fit raises `InvalidRequest` naming the field and, for items, the index.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import of_single_item
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.items import items_message, items_value, prefix_message, prefix_value
from rankport.protos.tensors import float32_array, tensor_array, tensor_message
from rankport.protos.types import (
    EncodedText,
    Item,
    ItemStatus,
    ModelDescription,
    OnMissing,
    Prefix,
    ScoreResult,
    Truncation,
    Usage,
)
from rankport.protos.v1 import rankport_pb2 as pb

_TRUNCATION: dict[Truncation, pb.Truncation.ValueType] = {
    "error": pb.TRUNCATION_ERROR,
    "truncate": pb.TRUNCATION_TRUNCATE,
}
_ON_MISSING: dict[OnMissing, pb.OnMissing.ValueType] = {
    "skip": pb.ON_MISSING_SKIP,
    "fail": pb.ON_MISSING_FAIL,
}
_STATUS: dict[ItemStatus, pb.ItemStatus.ValueType] = {
    ItemStatus.OK: pb.ITEM_STATUS_OK,
    ItemStatus.TRUNCATED: pb.ITEM_STATUS_TRUNCATED,
    ItemStatus.NOT_FOUND: pb.ITEM_STATUS_NOT_FOUND,
    ItemStatus.FAILED: pb.ITEM_STATUS_FAILED,
}
_STATUS_VALUE: dict[int, ItemStatus] = {code: status for status, code in _STATUS.items()}

_USAGE = tuple(field.name for field in fields(Usage))

Choice = TypeVar("Choice", Truncation, OnMissing)
Code = TypeVar("Code", pb.Truncation.ValueType, pb.OnMissing.ValueType)


@dataclass(frozen=True, slots=True)
class ScoreQuery:
    """Arguments of `Ranker.score` that a request carries."""

    prefix: Prefix
    items: ItemColumns
    truncation: Truncation
    on_missing: OnMissing


@dataclass(frozen=True, slots=True)
class EncodeQuery:
    """Arguments of `ItemEncoder.encode` that a request carries."""

    texts: ItemColumns  # of texts and token ids
    truncation: Truncation


def score_request(
    model: str,
    prefix: Prefix,
    items: Iterable[Item] | ItemColumns,
    truncation: Truncation,
    on_missing: OnMissing,
) -> pb.ScoreRequest:
    """Writes `Ranker.score`'s arguments as a message; `InvalidRequest` if one does not fit the wire."""
    return pb.ScoreRequest(
        model=model,
        prefix=prefix_message(prefix),
        items=items_message(items),
        truncation=_code(_TRUNCATION, truncation, "truncation"),
        on_missing=_code(_ON_MISSING, on_missing, "on_missing"),
    )


def score_query(request: pb.ScoreRequest) -> ScoreQuery:
    """Reads what a score request asks for; `InvalidRequest` if it is malformed."""
    return ScoreQuery(
        prefix=prefix_value(request.prefix),
        items=items_value(request.items),
        truncation=_choice(_TRUNCATION, request.truncation, "truncation"),
        on_missing=_choice(_ON_MISSING, request.on_missing, "on_missing"),
    )


def score_response(result: ScoreResult) -> pb.ScoreResponse:
    """Writes a result as a message."""
    return pb.ScoreResponse(
        fingerprint=result.fingerprint,
        scores=tensor_message(result.scores, "scores"),
        logits=tensor_message(result.logits, "logits"),
        outcomes=_outcome_messages(result.status, result.messages),
        usage=_usage_message(result.usage),
        score_kind=result.score_kind,
        read_out=result.read_out,
    )


def score_result(response: pb.ScoreResponse) -> ScoreResult:
    """Reads the result in a response; `InvalidRequest` if its parts do not fit each other."""
    scores = float32_array(response.scores, "scores", axes=1)
    logits = float32_array(response.logits, "logits", axes=2)
    if len(scores) != len(logits):
        raise InvalidRequest(f"response has {len(scores)} scores and {len(logits)} rows of logits")
    status, messages = _outcomes(response.outcomes, len(scores))
    return ScoreResult(
        scores=scores,
        logits=logits,
        status=status,
        messages=messages,
        usage=_usage_value(response.usage),
        fingerprint=response.fingerprint,
        score_kind=response.score_kind,
        read_out=response.read_out,
    )


def encode_request(
    model: str, texts: Iterable[str | Sequence[int]], truncation: Truncation
) -> pb.EncodeRequest:
    """Writes `ItemEncoder.encode`'s arguments as a message; `InvalidRequest` if one does not fit the wire."""
    return pb.EncodeRequest(
        model=model,
        texts=items_message(texts, "texts"),
        truncation=_code(_TRUNCATION, truncation, "truncation"),
    )


def encode_query(request: pb.EncodeRequest | pb.EncodeStreamRequest) -> EncodeQuery:
    """Reads what an encode request asks for; `InvalidRequest` if it is malformed or has items that are not text."""
    texts = items_value(request.texts, "texts")
    others = [column.places[0] for column in (texts.keys, texts.embeddings) if column and len(column.places)]
    if others:
        raise InvalidRequest(
            f"texts[{min(others)}] is neither text nor token ids; an item encoder takes only these"
        )
    return EncodeQuery(
        texts=texts,
        truncation=_choice(_TRUNCATION, request.truncation, "truncation"),
    )


def encode_response(embeddings: NDArray[np.floating], fingerprint: str) -> pb.EncodeResponse:
    """Writes embedding tokens [texts, k, hidden] as a message."""
    return pb.EncodeResponse(fingerprint=fingerprint, embeddings=tensor_message(embeddings, "embeddings"))


def encode_result(response: pb.EncodeResponse | pb.EncodeStreamResponse) -> NDArray[np.floating]:
    """Reads the embedding tokens [texts, k, hidden] of a response; `InvalidRequest` if they have another shape."""
    embeddings = tensor_array(response.embeddings, "embeddings")
    if embeddings.ndim != 3:
        raise InvalidRequest(f"embeddings has shape {list(embeddings.shape)}; expected [texts, k, hidden]")
    return embeddings


def stream_request(
    model: str, chunk: Sequence[tuple[str, str | Sequence[int]]], truncation: Truncation
) -> pb.EncodeStreamRequest:
    """Writes a chunk of (id, text) pairs as a message; `InvalidRequest`, with the id, if one does not fit the wire."""
    return pb.EncodeStreamRequest(
        model=model,
        ids=[id for id, _ in chunk],
        texts=_stream_texts(chunk),
        truncation=_code(_TRUNCATION, truncation, "truncation"),
    )


def stream_response(
    ids: Sequence[str],
    embeddings: NDArray[np.floating],
    status: Sequence[ItemStatus],
    messages: Sequence[str],
    fingerprint: str,
) -> pb.EncodeStreamResponse:
    """Writes the answer to a chunk: embeddings [texts, k, hidden], a status and message ("": none) per text."""
    return pb.EncodeStreamResponse(
        fingerprint=fingerprint,
        ids=ids,
        embeddings=tensor_message(embeddings, "embeddings"),
        outcomes=_outcome_messages(status, messages),
    )


def stream_results(response: pb.EncodeStreamResponse) -> list[EncodedText]:
    """Reads a result per text of a chunk; `InvalidRequest` if the response's parts do not fit each other."""
    embeddings = encode_result(response)
    if len(embeddings) != len(response.ids):
        raise InvalidRequest(f"response has {len(embeddings)} embeddings and {len(response.ids)} ids")
    status, messages = _outcomes(response.outcomes, len(embeddings))
    return [EncodedText(*row) for row in zip(response.ids, embeddings, status, messages, strict=True)]


def description_message(model: ModelDescription) -> pb.ModelDescription:
    """Writes a model's description as a message."""
    return pb.ModelDescription(**asdict(model))


def description_value(message: pb.ModelDescription) -> ModelDescription:
    """Reads the description in a message."""
    values: dict[str, Any] = {field.name: getattr(message, field.name) for field in fields(ModelDescription)}
    repeated = {name: tuple(value) for name, value in values.items() if not isinstance(value, str | int)}
    return ModelDescription(**(values | repeated))


def _stream_texts(chunk: Sequence[tuple[str, str | Sequence[int]]]) -> pb.Items:
    try:
        return items_message([text for _, text in chunk], "texts")
    except InvalidRequest:
        for id, text in chunk:  # whose place in the chunk says nothing to the caller
            try:
                items_message([text], "texts")
            except InvalidRequest as error:
                raise InvalidRequest(f"text of id {id!r}: {of_single_item(str(error))}") from None
        raise


def _usage_message(usage: Usage) -> pb.Usage:
    return pb.Usage(**{name: getattr(usage, name) for name in _USAGE})


def _usage_value(message: pb.Usage) -> Usage:
    return Usage(**{name: getattr(message, name) for name in _USAGE})


def _code(codes: Mapping[Choice, Code], value: Choice, field: str) -> Code:
    try:
        return codes[value]
    except (KeyError, TypeError):
        raise InvalidRequest(f"{field} is {value!r}; give one of {', '.join(codes)}") from None


def _choice(codes: Mapping[Choice, Code], code: Code, field: str) -> Choice:
    """Reads the value of an enum's number; 0, "not set", is the first one."""
    if not code:
        return next(iter(codes))
    for value, known in codes.items():
        if known == code:
            return value
    raise InvalidRequest(f"{field} is {code}; this version knows {sorted(codes.values())}")


def _outcome_messages(status: Sequence[ItemStatus], messages: Sequence[str]) -> list[pb.ItemOutcome]:
    """Reads what there is to say of some items; nothing of the others."""
    if status.count(ItemStatus.OK) == len(status) and not any(messages):
        return []
    return [
        pb.ItemOutcome(index=index, status=_STATUS[own], message=message)
        for index, (own, message) in enumerate(zip(status, messages, strict=True))
        if own is not ItemStatus.OK or message
    ]


def _outcomes(
    outcomes: Sequence[pb.ItemOutcome], items: int
) -> tuple[tuple[ItemStatus, ...], tuple[str, ...]]:
    """Reads status and message of every item."""
    if not outcomes:
        return (ItemStatus.OK,) * items, ("",) * items
    status, messages = [ItemStatus.OK] * items, [""] * items
    for outcome in outcomes:
        if outcome.index >= items:
            raise InvalidRequest(f"outcomes name item {outcome.index}, but there are {items} items")
        if outcome.status not in _STATUS_VALUE:
            raise InvalidRequest(
                f"status {outcome.status} is unknown; this version knows {sorted(_STATUS_VALUE)}"
            )
        status[outcome.index] = _STATUS_VALUE[outcome.status]
        messages[outcome.index] = outcome.message
    return tuple(status), tuple(messages)
