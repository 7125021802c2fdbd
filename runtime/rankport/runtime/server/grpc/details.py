"""Trailers of a failed call: the error's name, and what `google.rpc` has to say of it."""

import re

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from rankport.protos.errors import ERROR_METADATA_KEY, InvalidRequest, RankportError

_DOMAIN = "rankport"
# Messages open with what is at fault: "items.embeddings.shape is …", "item 3: …", "texts[0] is …".
_FIELD = re.compile(
    r"(?P<field>(?:prefix|items|texts|first_texts|words|features|feature_names|truncation|on_missing|side|unit|stride|ids)"
    r"(?:\[\d+\])?(?:\.\w+(?:\[\d+\])?)*)(?=[:\s])|item (?P<item>\d+)\b"
)
Trailers = tuple[tuple[str, str | bytes], ...]


def trailers_of(
    code: grpc.StatusCode, message: str, error: RankportError, retry_after_s: float | None
) -> Trailers:
    """Makes the trailers of an error; `retry_after_s` where a retry may succeed, None otherwise."""
    number: int = code.value[0]
    status = Status(code=number, message=message)
    for detail in _details(message, error, retry_after_s):
        status.details.add().Pack(detail)
    trailers: Trailers = (
        (ERROR_METADATA_KEY, type(error).__name__),
        ("grpc-status-details-bin", status.SerializeToString()),
    )
    if retry_after_s is None:
        return trailers
    return (*trailers, ("grpc-retry-pushback-ms", str(round(retry_after_s * 1000))))


def _details(message: str, error: RankportError, retry_after_s: float | None) -> list[Message]:
    details: list[Message] = [ErrorInfo(reason=type(error).__name__, domain=_DOMAIN)]
    field = _field(message) if isinstance(error, InvalidRequest) else None
    if field is not None:
        violation = BadRequest.FieldViolation(field=field, description=message[:200])
        details.append(BadRequest(field_violations=[violation]))
    if retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(round(retry_after_s * 1000))
        details.append(RetryInfo(retry_delay=delay))
    return details


def _field(message: str) -> str | None:
    matched = _FIELD.match(message)
    if matched is None:
        return None
    return matched["field"] or f"items[{matched['item']}]"
