"""Requests and responses of the gRPC API <-> the values of `types`, for server and client alike.

Strict both ways: what does not fit raises `InvalidRequest` naming the field and, for items, the index.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import checked_items, checked_text, of_single_item
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.features import FeatureColumns
from rankport.protos.messages.items import items_message, items_value, query_message, query_value
from rankport.protos.messages.tensors import float32_array, tensor_array, tensor_message
from rankport.protos.messages.wire_parts import (
    ON_MISSING,
    TRUNCATION,
    enum_code,
    enum_value,
    one_message,
    outcome_messages,
    outcomes_of,
    require_fingerprint,
    side_code,
    side_value,
    usage_message,
    usage_value,
)
from rankport.protos.types import (
    EncodedText,
    FeatureDescription,
    Features,
    Item,
    ItemStatus,
    LookupResult,
    ModelDescription,
    OnMissing,
    Query,
    ScoreResult,
    Side,
    Truncation,
)
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.wording import counted


@dataclass(frozen=True, slots=True)
class ScoreQuery:
    """Arguments of `Ranker.score` that a request carries."""

    prefix: Query
    items: ItemColumns
    truncation: Truncation
    on_missing: OnMissing
    features: FeatureColumns | None = None


@dataclass(frozen=True, slots=True)
class EncodeQuery:
    """Arguments of `ItemEncoder.encode` that a request carries."""

    texts: ItemColumns  # of texts and token ids
    truncation: Truncation
    side: Side | None = None


@one_message
def score_request(
    model: str,
    prefix: Query,
    items: Iterable[Item] | ItemColumns,
    truncation: Truncation,
    on_missing: OnMissing,
    features: Features | FeatureColumns | None = None,
) -> pb.ScoreRequest:
    """Writes `Towers.score`'s arguments as a message; `InvalidRequest` if one does not fit the wire."""
    wide = None if features is None else FeatureColumns.of(features)
    return pb.ScoreRequest(
        model=model,
        prefix=query_message(prefix),
        items=items_message(items),
        truncation=enum_code(TRUNCATION, truncation, "truncation"),
        on_missing=enum_code(ON_MISSING, on_missing, "on_missing"),
        features=None if wide is None else tensor_message(wide.values, "features"),
        feature_names=() if wide is None else wide.names,
    )


def score_query(request: pb.ScoreRequest) -> ScoreQuery:
    """Reads what a score request asks for; `InvalidRequest` if it is malformed."""
    return ScoreQuery(
        prefix=query_value(request.prefix),
        items=items_value(request.items),
        truncation=enum_value(TRUNCATION, request.truncation, "truncation"),
        on_missing=enum_value(ON_MISSING, request.on_missing, "on_missing"),
        features=_features(request),
    )


def score_response(result: ScoreResult) -> pb.ScoreResponse:
    """Writes a result as a message."""
    return pb.ScoreResponse(
        fingerprint=result.fingerprint,
        scores=tensor_message(result.scores, "scores"),
        logits=tensor_message(result.logits, "logits"),
        outcomes=outcome_messages(result.status, result.messages),
        usage=usage_message(result.usage),
        score_kind=result.score_kind,
        read_out=result.read_out,
        depth=result.depth,
    )


def score_result(response: pb.ScoreResponse) -> ScoreResult:
    """Reads the result in a response; `InvalidRequest` if its parts do not fit each other."""
    scores = float32_array(response.scores, "scores", axes=1)
    logits = float32_array(response.logits, "logits", axes=2)
    if len(scores) != len(logits):
        raise InvalidRequest(
            f"response has {counted(len(scores), 'score')} and {counted(len(logits), 'row')} of logits"
        )
    status, messages = outcomes_of(response.outcomes, len(scores))
    return ScoreResult(
        scores=scores,
        logits=logits,
        status=status,
        messages=messages,
        usage=usage_value(response.usage),
        fingerprint=response.fingerprint,
        score_kind=response.score_kind,
        read_out=response.read_out,
        depth=response.depth if response.HasField("depth") else None,
    )


@one_message
def lookup_request(model: str, keys: Iterable[str]) -> pb.LookupRequest:
    """Writes `Client.lookup`'s arguments as a message; `InvalidRequest` if one does not fit the wire."""
    listed = checked_items(keys, "keys")
    return pb.LookupRequest(
        model=model, keys=[checked_text(key, f"key {index}") for index, key in enumerate(listed)]
    )


def lookup_response(result: LookupResult) -> pb.LookupResponse:
    """Writes stored tokens as a message."""
    return pb.LookupResponse(
        fingerprint=result.fingerprint,
        embeddings=tensor_message(result.embeddings, "embeddings"),
        outcomes=outcome_messages(result.status, result.messages),
    )


def lookup_result(response: pb.LookupResponse) -> LookupResult:
    """Reads stored tokens; `InvalidRequest` if the response's parts do not fit each other."""
    embeddings = encode_result(response)
    status, messages = outcomes_of(response.outcomes, len(embeddings))
    return LookupResult(embeddings, status, messages, response.fingerprint)


@one_message
def encode_request(
    model: str, texts: Iterable[str | Sequence[int]], truncation: Truncation, side: Side | None = None
) -> pb.EncodeRequest:
    """Writes `ItemEncoder.encode`'s arguments as a message; `InvalidRequest` if one does not fit the wire."""
    return pb.EncodeRequest(
        model=model,
        texts=items_message(texts, "texts"),
        truncation=enum_code(TRUNCATION, truncation, "truncation"),
        side=side_code(side),
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
        truncation=enum_value(TRUNCATION, request.truncation, "truncation"),
        side=side_value(request.side),
    )


def encode_response(embeddings: NDArray[np.floating], fingerprint: str) -> pb.EncodeResponse:
    """Writes embedding tokens [texts, k, hidden] as a message."""
    return pb.EncodeResponse(fingerprint=fingerprint, embeddings=tensor_message(embeddings, "embeddings"))


def encode_result(
    response: pb.EncodeResponse | pb.EncodeStreamResponse | pb.LookupResponse, fingerprint: str | None = None
) -> NDArray[np.floating]:
    """Reads the embedding tokens [texts, k, hidden] of a response.

    Raises `InvalidRequest` if they have another shape, `PairingError` if they are of another `fingerprint` than given.
    """
    require_fingerprint(fingerprint, response.fingerprint)
    embeddings = tensor_array(response.embeddings, "embeddings")
    if embeddings.ndim != 3:
        raise InvalidRequest(f"embeddings has shape {list(embeddings.shape)}; expected [texts, k, hidden]")
    return embeddings


@one_message
def stream_request(
    model: str,
    chunk: Sequence[tuple[str, str | Sequence[int]]],
    truncation: Truncation,
    side: Side | None = None,
) -> pb.EncodeStreamRequest:
    """Writes a chunk of (id, text) pairs as a message; `InvalidRequest`, with the id, if one does not fit the wire."""
    return pb.EncodeStreamRequest(
        model=model,
        ids=[checked_text(id, "an id") for id, _ in chunk],
        texts=_stream_texts(chunk),
        truncation=enum_code(TRUNCATION, truncation, "truncation"),
        side=side_code(side),
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
        outcomes=outcome_messages(status, messages),
    )


def stream_results(response: pb.EncodeStreamResponse) -> list[EncodedText]:
    """Reads a result per text of a chunk; `InvalidRequest` if the response's parts do not fit each other."""
    embeddings = encode_result(response)
    if len(embeddings) != len(response.ids):
        raise InvalidRequest(f"response has {len(embeddings)} embeddings and {len(response.ids)} ids")
    status, messages = outcomes_of(response.outcomes, len(embeddings))
    return [EncodedText(*row) for row in zip(response.ids, embeddings, status, messages, strict=True)]


def description_message(model: ModelDescription) -> pb.ModelDescription:
    """Writes a model's description as a message."""
    return pb.ModelDescription(**asdict(model))


def description_value(message: pb.ModelDescription) -> ModelDescription:
    """Reads the description in a message."""
    values: dict[str, Any] = {field.name: getattr(message, field.name) for field in fields(ModelDescription)}
    repeated = {
        name: tuple(map(_plain, value)) for name, value in values.items() if not isinstance(value, str | int)
    }
    return ModelDescription(**(values | repeated))


def _plain(value: Any) -> Any:
    if isinstance(value, pb.FeatureDescription):
        return FeatureDescription(
            **{each.name: getattr(value, each.name) for each in fields(FeatureDescription)}
        )
    return value


def _features(request: pb.ScoreRequest) -> FeatureColumns | None:
    names = len(request.feature_names)
    if not request.HasField("features"):
        if names:
            raise InvalidRequest(f"there are {names} feature_names, and features is not set")
        return None
    values = float32_array(request.features, "features", axes=2)
    if names and names != values.shape[1]:
        raise InvalidRequest(f"features has {counted(values.shape[1], 'column')} and {names} feature_names")
    return FeatureColumns(values, tuple(request.feature_names))


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
