"""Requests and responses of Generate <-> the values of `generation`, for server and client alike. Strict, as `wire`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import (
    FinishReason,
    GeneratedBeam,
    GeneratedPart,
    GenerateResult,
    GenerateUsage,
    Sampling,
    TokenLogprob,
)
from rankport.protos.messages.items import prefix_message, prefix_value
from rankport.protos.messages.wire_parts import TRUNCATION, enum_code, enum_value, message_of, one_message
from rankport.protos.types import Prefix, Truncation
from rankport.protos.v1 import rankport_pb2 as pb

_FINISH: Mapping[FinishReason, pb.FinishReason.ValueType] = {
    "stop": pb.FINISH_REASON_STOP,
    "length": pb.FINISH_REASON_LENGTH,
}
_Optional = Literal[
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "min_tokens",
    "seed",
    "beams",
    "length_penalty",
]
_OPTIONAL: tuple[_Optional, ...] = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "min_tokens",
    "seed",
    "beams",
    "length_penalty",
)
_USAGE = tuple(field.name for field in fields(GenerateUsage))


@dataclass(frozen=True, slots=True)
class GenerateQuery:
    """Arguments of `Generator.generate` that a request carries."""

    prompt: Prefix
    sampling: Sampling
    truncation: Truncation


@one_message
def generate_request(
    model: str, prompt: Prefix, sampling: Sampling, truncation: Truncation
) -> pb.GenerateRequest:
    """Writes `Generator.generate`'s arguments as a message; `InvalidRequest` if one does not fit the wire."""
    said = {name: getattr(sampling, name) for name in _OPTIONAL if getattr(sampling, name) is not None}
    request = message_of(
        pb.GenerateRequest,
        model=model,
        prefix=prefix_message(prompt),
        truncation=enum_code(TRUNCATION, truncation, "truncation"),
        stop=sampling.stop,
        stop_ids=sampling.stop_ids,
        logprobs=sampling.logprobs,
        top_logprobs=sampling.top_logprobs,
        logit_bias=dict(sampling.logit_bias),
        ignore_eos=sampling.ignore_eos,
        **said,
    )
    if sampling.json_schema is not None:
        request.json_schema = str(sampling.json_schema)
    elif sampling.regex is not None:
        request.regex = sampling.regex
    return request


def generate_query(request: pb.GenerateRequest) -> GenerateQuery:
    """Reads what a request asks for; `InvalidRequest` if it is malformed."""
    said = {name: getattr(request, name) for name in _OPTIONAL if request.HasField(name)}
    form = request.WhichOneof("grammar")
    sampling = Sampling(
        stop=tuple(request.stop),
        stop_ids=tuple(request.stop_ids),
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
        logit_bias=dict(request.logit_bias),
        ignore_eos=request.ignore_eos,
        json_schema=request.json_schema if form == "json_schema" else None,
        regex=request.regex if form == "regex" else None,
        **said,
    )
    return GenerateQuery(
        prefix_value(request.prefix),
        sampling,
        enum_value(TRUNCATION, request.truncation, "truncation"),
    )


def part_message(parts: Sequence[GeneratedPart]) -> pb.GenerateResponse:
    """Writes what several steps add as one message."""
    told = [part for part in parts if part.token_id is not None]
    return pb.GenerateResponse(
        text="".join(part.text for part in parts),
        token_ids=[part.token_id for part in told if part.token_id is not None],
        logprobs=[part.logprob for part in told if part.logprob is not None],
        top_logprobs=[_top_message(part.top_logprobs) for part in told if part.top_logprobs],
    )


def last_message(result: GenerateResult, fingerprint: str) -> pb.GenerateResponse:
    """Writes the end of a text."""
    return pb.GenerateResponse(
        finish_reason=_FINISH[result.finish_reason],
        usage=pb.GenerateUsage(**{name: getattr(result.usage, name) for name in _USAGE}),
        fingerprint=fingerprint,
        beams=[_beam_message(beam) for beam in result.beams],
    )


def part_values(message: pb.GenerateResponse) -> list[GeneratedPart]:
    """Reads the steps of a message; the text of them all is the last one's."""
    logprobs: Sequence[float | None] = list(message.logprobs) or [None] * len(message.token_ids)
    likeliest = [_top_values(top) for top in message.top_logprobs] or [()] * len(message.token_ids)
    for name, told in (("logprobs", logprobs), ("top_logprobs", likeliest)):
        if len(told) != len(message.token_ids):
            raise InvalidRequest(f"{len(told)} {name} for {len(message.token_ids)} token_ids")
    columns = zip(message.token_ids, logprobs, likeliest, strict=True)
    parts = [GeneratedPart("", token, logprob, top) for token, logprob, top in columns]
    if not message.text:
        return parts
    if not parts:
        return [GeneratedPart(message.text, None)]
    return [*parts[:-1], replace(parts[-1], text=message.text)]


def is_last(message: pb.GenerateResponse) -> bool:
    """Tells the message that says how a text ended."""
    return message.finish_reason != pb.FINISH_REASON_UNSPECIFIED


def generate_result(
    parts: Iterable[GeneratedPart], last: pb.GenerateResponse, sampling: Sampling
) -> GenerateResult:
    """Makes the whole text of its parts and the last message."""
    told = list(parts)
    logprobs = [part.logprob for part in told if part.logprob is not None]
    return GenerateResult(
        text="".join(part.text for part in told),
        token_ids=tuple(part.token_id for part in told if part.token_id is not None),
        finish_reason=enum_value(_FINISH, last.finish_reason, "finish_reason"),
        usage=GenerateUsage(**{name: getattr(last.usage, name) for name in _USAGE}),
        logprobs=np.array(logprobs, np.float32) if sampling.logprobs else None,
        top_logprobs=tuple(part.top_logprobs for part in told if part.top_logprobs),
        beams=tuple(_beam_value(beam) for beam in last.beams),
    )


def _top_message(likeliest: Sequence[TokenLogprob]) -> pb.TopLogprobs:
    return pb.TopLogprobs(
        token_ids=[each.token_id for each in likeliest],
        texts=[each.text for each in likeliest],
        logprobs=[each.logprob for each in likeliest],
    )


def _top_values(message: pb.TopLogprobs) -> tuple[TokenLogprob, ...]:
    columns = (message.token_ids, message.texts, message.logprobs)
    if len({len(column) for column in columns}) > 1:
        raise InvalidRequest(
            f"top_logprobs have {', '.join(str(len(column)) for column in columns)} token_ids, texts and logprobs"
        )
    return tuple(TokenLogprob(token, text, logprob) for token, text, logprob in zip(*columns, strict=True))


def _beam_message(beam: GeneratedBeam) -> pb.GeneratedBeam:
    return pb.GeneratedBeam(
        text=beam.text,
        token_ids=beam.token_ids,
        score=beam.score,
        finish_reason=_FINISH[beam.finish_reason],
    )


def _beam_value(message: pb.GeneratedBeam) -> GeneratedBeam:
    reason = enum_value(_FINISH, message.finish_reason, "finish_reason")
    return GeneratedBeam(message.text, tuple(message.token_ids), message.score, reason)
