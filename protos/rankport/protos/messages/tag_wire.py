"""Requests and responses of Tag <-> the values of `tagging`, for server and client alike. Strict, as `wire`."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import offsets_of
from rankport.protos.errors import InvalidRequest
from rankport.protos.messages.tensors import float32_array, tensor_message
from rankport.protos.messages.text_units import TextUnit, places_in
from rankport.protos.messages.wire_parts import (
    enum_code,
    enum_value,
    one_message,
    outcome_messages,
    outcomes_of,
    usage_message,
    usage_value,
)
from rankport.protos.tagging import TagResult, TagTexts, TagTruncation, WordTags, checked_stride
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.wording import be, counted

_TRUNCATION: Mapping[TagTruncation, pb.Truncation.ValueType] = {
    "error": pb.TRUNCATION_ERROR,
    "truncate": pb.TRUNCATION_TRUNCATE,
    "windows": pb.TRUNCATION_WINDOWS,
}
_UNIT: Mapping[TextUnit, pb.TextUnit.ValueType] = {
    "code_points": pb.TEXT_UNIT_CODE_POINTS,
    "utf16": pb.TEXT_UNIT_UTF16,
    "utf8": pb.TEXT_UNIT_UTF8,
}


@dataclass(frozen=True, slots=True)
class TagQuery:
    """Arguments of `Tagger.tag` that a request carries, and what it wants places counted in."""

    texts: TagTexts
    truncation: TagTruncation
    stride: int | None
    unit: TextUnit


@one_message
def tag_request(
    model: str,
    texts: Iterable[str | Sequence[str]] | TagTexts,
    truncation: TagTruncation,
    stride: int | None,
) -> pb.TagRequest:
    """Writes `Tagger.tag`'s arguments as a message; `InvalidRequest` if one does not fit the wire."""
    given = TagTexts.of(texts)
    request = pb.TagRequest(
        model=model,
        truncation=enum_code(_TRUNCATION, truncation, "truncation"),
        stride=checked_stride(stride),
    )
    if given.words is None:
        request.texts.CopyFrom(pb.Strings(values=given.texts))
    else:
        assert given.word_offsets is not None
        request.words.CopyFrom(pb.RaggedWords(words=given.words, counts=np.diff(given.word_offsets)))
    return request


def tag_query(request: pb.TagRequest) -> TagQuery:
    """Reads what a tag request asks for; `InvalidRequest` if it is malformed."""
    return TagQuery(
        texts=_texts(request),
        truncation=enum_value(_TRUNCATION, request.truncation, "truncation"),
        stride=checked_stride(request.stride) if request.HasField("stride") else None,
        unit=enum_value(_UNIT, request.unit, "unit"),
    )


def tag_response(result: TagResult, texts: TagTexts, unit: TextUnit) -> pb.TagResponse:
    """Writes a result as a message, its places in `unit`."""
    counts = np.diff(result.offsets)
    text_of = np.repeat(np.arange(len(texts)), counts)
    starts, ends = (places_in(texts.texts, places, text_of, unit) for places in (result.starts, result.ends))
    return pb.TagResponse(
        fingerprint=result.fingerprint,
        names=result.names,
        counts=counts,
        starts=starts,
        ends=ends,
        labels=result.labels,
        scores=tensor_message(result.scores, "scores"),
        words=None if result.words is None else _words_message(result.words),
        outcomes=outcome_messages(result.status, result.messages),
        usage=usage_message(result.usage),
    )


def tag_result(response: pb.TagResponse, texts: TagTexts) -> TagResult:
    """Reads the result in a response to `texts`; `InvalidRequest` if its parts do not fit each other."""
    _require(
        len(response.counts) == len(texts),
        f"counts has {counted(len(response.counts), 'value')} for {counted(len(texts), 'text')}",
    )
    _require(min(response.counts, default=0) >= 0, f"counts has {min(response.counts, default=0)}")
    spans = sum(response.counts)  # of any size
    scores = float32_array(response.scores, "scores", axes=1)
    columns: tuple[Sized, ...] = (response.starts, response.ends, response.labels, scores)
    for name, column in zip(("starts", "ends", "labels", "scores"), columns, strict=True):
        _require(
            len(column) == spans, f"{name} has {counted(len(column), 'value')} for {counted(spans, 'span')}"
        )
    labels = _places(response.labels, response.names, "labels")
    status, messages = outcomes_of(response.outcomes, len(texts))
    return TagResult(
        starts=np.array(response.starts, np.int64),
        ends=np.array(response.ends, np.int64),
        labels=labels,
        scores=scores,
        offsets=offsets_of(np.array(response.counts, np.int64)),
        names=tuple(response.names),
        words=_words_value(response, texts, spans),
        status=status,
        messages=messages,
        usage=usage_value(response.usage),
        fingerprint=response.fingerprint,
    )


def _texts(request: pb.TagRequest) -> TagTexts:
    match request.WhichOneof("form"):
        case "texts":
            return TagTexts(request.texts.values[:])
        case "words":
            words, counts = request.words.words, request.words.counts
            if min(counts, default=0) < 0 or sum(counts) != len(words):
                raise InvalidRequest(
                    f"words.counts add up to {sum(counts)}, or one is below 0; there {be(len(words))} "
                    f"{counted(len(words), 'word')}"
                )
            return TagTexts.of_words(words[:], counts[:])
        case _:
            raise InvalidRequest("form is not set; give texts or words")


def _words_message(words: WordTags) -> pb.WordTags:
    return pb.WordTags(
        names=words.names,
        tags=words.tags,
        scores=tensor_message(words.scores, "words.scores"),
        first=words.first,
        last=words.last,
    )


def _words_value(response: pb.TagResponse, texts: TagTexts, spans: int) -> WordTags | None:
    if texts.words is None:
        return None
    message = response.words
    assert texts.word_offsets is not None
    scores = (
        float32_array(message.scores, "words.scores", axes=1) if message.tags else np.empty(0, np.float32)
    )
    for name, column, count in (
        ("tags", message.tags, len(texts.words)),
        ("scores", scores, len(texts.words)),
        ("first", message.first, spans),
        ("last", message.last, spans),
    ):
        _require(len(column) == count, f"words.{name} has {counted(len(column), 'value')}, {count} are due")
    return WordTags(
        tags=_places(message.tags, message.names, "words.tags"),
        scores=scores,
        offsets=texts.word_offsets,
        names=tuple(message.names),
        first=np.array(message.first, np.int64),
        last=np.array(message.last, np.int64),
    )


def _places(places: Sequence[int], names: Sequence[str], field: str) -> NDArray[np.int32]:
    array = np.array(places, np.int32)
    inside = not len(array) or (array.min() >= 0 and array.max() < len(names))
    _require(bool(inside), f"{field} name a label that is none of the {len(names)}")
    return array


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise InvalidRequest(f"response: {complaint}")
