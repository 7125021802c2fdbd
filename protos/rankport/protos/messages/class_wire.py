"""Requests and responses of `Classify` <-> the values of `classes`, for server and client alike. Strict as `wire`."""

from collections.abc import Iterable
from dataclasses import dataclass

from rankport.protos.classes import ClassifyResult, ClassText, ClassTexts, require_texts
from rankport.protos.errors import InvalidRequest
from rankport.protos.messages.items import items_message, items_value, prefix_message, prefix_value
from rankport.protos.messages.tensors import float32_array, tensor_message
from rankport.protos.messages.wire_parts import (
    TRUNCATION,
    enum_code,
    enum_value,
    one_message,
    outcome_messages,
    outcomes_of,
    usage_message,
    usage_value,
)
from rankport.protos.types import Prefix, Truncation
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.wording import counted


@dataclass(frozen=True, slots=True)
class ClassifyQuery:
    """Arguments of `Classifier.classify` that a request carries."""

    texts: ClassTexts
    prefix: Prefix | None
    truncation: Truncation


@one_message
def classify_request(
    model: str, texts: Iterable[ClassText] | ClassTexts, prefix: Prefix | None, truncation: Truncation
) -> pb.ClassifyRequest:
    """Writes `Classifier.classify`'s arguments as a message; `InvalidRequest` if one does not fit the wire."""
    columns = ClassTexts.of(texts)
    return pb.ClassifyRequest(
        model=model,
        texts=items_message(columns.texts, "texts"),
        first_texts=None if columns.firsts is None else items_message(columns.firsts, "first texts"),
        prefix=None if prefix is None else prefix_message(prefix),
        truncation=enum_code(TRUNCATION, truncation, "truncation"),
    )


def classify_query(request: pb.ClassifyRequest) -> ClassifyQuery:
    """Reads what a request asks for; `InvalidRequest` if it is malformed or has items that are no texts."""
    texts = require_texts(items_value(request.texts, "texts"), "texts")
    columns = ClassTexts(texts)
    if request.HasField("first_texts"):
        firsts = require_texts(items_value(request.first_texts, "first_texts"), "first_texts")
        columns = ClassTexts.paired(texts, firsts)
    return ClassifyQuery(
        columns,
        prefix_value(request.prefix) if request.HasField("prefix") else None,
        enum_value(TRUNCATION, request.truncation, "truncation"),
    )


def classify_response(result: ClassifyResult) -> pb.ClassifyResponse:
    """Writes a result as a message."""
    return pb.ClassifyResponse(
        fingerprint=result.fingerprint,
        probabilities=tensor_message(result.probabilities, "probabilities"),
        logits=tensor_message(result.logits, "logits"),
        labels=result.labels,
        exclusive=result.exclusive,
        outcomes=outcome_messages(result.status, result.messages),
        usage=usage_message(result.usage),
    )


def classify_result(response: pb.ClassifyResponse) -> ClassifyResult:
    """Reads the result in a response; `InvalidRequest` if its parts do not fit each other."""
    probabilities = float32_array(response.probabilities, "probabilities", axes=2)
    logits = float32_array(response.logits, "logits", axes=2)
    expected = (len(probabilities), len(response.labels))
    if probabilities.shape != expected or logits.shape != expected:
        raise InvalidRequest(
            f"response has {counted(len(response.labels), 'label')}, probabilities of shape "
            f"{list(probabilities.shape)} and "
            f"logits of shape {list(logits.shape)}: they do not fit each other"
        )
    status, messages = outcomes_of(response.outcomes, len(probabilities))
    return ClassifyResult(
        labels=tuple(response.labels),
        probabilities=probabilities,
        logits=logits,
        exclusive=response.exclusive,
        status=status,
        messages=messages,
        usage=usage_value(response.usage),
        fingerprint=response.fingerprint,
    )
