"""Texts that generators write: what OpenAI's dialects have in common, their options, whole answers and events."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from pydantic import Field

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import GeneratedPart, GenerateResult, Sampling
from rankport.protos.types import ModelDescription, Prefix
from rankport.runtime.kinds.kind import GeneratingModel
from rankport.runtime.server.http.call import Call, Reply, all_or_none
from rankport.runtime.server.http.forms import Form, OneOf, Texts, TokenIds, refuse
from rankport.runtime.server.http.scoring import own_headers
from rankport.runtime.server.http.vllm_options import cuts
from rankport.runtime.server.models.models import Served
from rankport.runtime.server.submitter import Parts

MAX_TEXTS = 128  # of a prompt, OpenAI's own limit
_LEAST_LOGPROB = -9999.0  # which JSON has in the place of minus infinity


class StreamOptions(Form):
    """Options of a stream."""

    include_usage: bool = False


class StructuredOutputs(OneOf):
    """Form that the text must have: JSON by a schema, or a pattern."""

    json_: Mapping[str, Any] | str | None = Field(None, alias="json")
    regex: str | None = None


class WritingOptions(Form):
    """Options that both dialects have. What they do not say, the bundle says."""

    model: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | Texts | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None  # names the end user for logs, and has no effect
    n: int | None = None  # texts of each prompt
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    top_k: int | None = None  # this and the following are vLLM's
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop_token_ids: TokenIds | None = None
    truncate_prompt_tokens: int | None = None  # -1: to what the model takes
    structured_outputs: StructuredOutputs | None = None

    @property
    def texts(self) -> int:
        """Counts the texts of each prompt. Raises `InvalidRequest` for a number that cannot be."""
        if self.n is None:
            return 1
        if not 1 <= self.n <= MAX_TEXTS:
            raise InvalidRequest(f"n is {self.n}: give a number from 1 to {MAX_TEXTS}")
        return self.n

    def sampling_as(
        self, max_tokens: int | None, logprobs: bool, json_schema: Mapping[str, Any] | str | None
    ) -> Sampling:
        """Tells how to write, with what the dialects say each in its own words.

        Raises `InvalidRequest` for what this server cannot do, or a value out of range.
        """
        for name in ("presence_penalty", "frequency_penalty", "logit_bias"):
            refuse(name, getattr(self, name) or None, "leave it out")
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options is given, and stream is not: set it to true")
        form = self.structured_outputs
        if form is not None and form.json_ is None and form.regex is None:
            raise InvalidRequest(
                "structured_outputs is given, and its form is null: give json or regex a value"
            )
        if form is not None and json_schema is not None:
            raise InvalidRequest("structured_outputs and response_format are both given: give one of them")
        return Sampling(
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            stop_ids=tuple(self.stop_token_ids or ()),
            logprobs=logprobs,
            json_schema=json_schema if form is None else form.json_,
            regex=None if form is None else form.regex,
        )


def unless(value: int | None, usual: int) -> int | None:
    """Returns a value, or None for the usual one."""
    return None if value == usual else value


class Words(Protocol):
    """Words of a dialect for texts and parts of them."""

    id_prefix: str
    whole: str  # what the object of an answer is named
    event: str

    def choice(self, place: int, text: str, logprobs: object, reason: str) -> object:
        """Writes a whole text."""

    def part(self, place: int, text: str, logprobs: object, reason: str | None, *, first: bool) -> object:
        """Writes a part of one."""

    def logprobs(self, tokens: Sequence["Token"]) -> object:
        """Writes the log-probabilities of tokens."""


@dataclass(slots=True)
class Token:
    """Token that was written: its text, with what was held back behind it, and where that begins in the whole text."""

    text: str
    logprob: float | None
    offset: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """Answer under way: what its body or each of its events begins with."""

    call: Call
    form: WritingOptions
    words: Words
    model: ModelDescription
    has_logprobs: bool
    id: str = field(default_factory=lambda: uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that say which model answers."""
        return own_headers(self.model)

    def body(self, name: str, choices: Sequence[object], **usage: object) -> Mapping[str, object]:
        """Writes a body, or an event."""
        head = {
            "id": f"{self.words.id_prefix}-{self.id}",
            "object": name,
            "created": self.created,
            "model": self.model.name,
        }
        return {**head, "choices": choices, **usage}

    async def put(self, choices: Sequence[object], usage: object = None) -> None:
        """Sends an event, with a place for the usage where it is asked for."""
        options = self.form.stream_options
        counted = {"usage": usage} if options is not None and options.include_usage else {}
        await self.call.events.put(self.body(self.words.event, choices, **counted), self.headers)


class _Text:
    """Text of one prompt as it is written, whole or in events."""

    def __init__(self, answer: _Answer, place: int) -> None:
        self._answer, self._place = answer, place
        self._sent = ""
        self._is_first = True
        self._parts: list[GeneratedPart] = []

    async def take(self, parts: Sequence[GeneratedPart]) -> None:
        """Takes parts, and sends them where the answer is a stream."""
        if not self._answer.form.stream:
            self._parts += parts
            return
        text, logprobs = "".join(part.text for part in parts), self._logprobs(parts, len(self._sent))
        self._sent += text
        if text or logprobs is not None:
            await self._put(text, logprobs, None)

    async def end(self, result: GenerateResult) -> object:
        """Gives the choice of a whole text; sends the last one of a stream, with what no part told."""
        if self._answer.form.stream:
            await self._put(result.text[len(self._sent) :], None, result.finish_reason)
            return None
        logprobs = self._logprobs(self._parts, 0)
        return self._answer.words.choice(self._place, result.text, logprobs, result.finish_reason)

    async def _put(self, text: str, logprobs: object, reason: str | None) -> None:
        part = self._answer.words.part(self._place, text, logprobs, reason, first=self._is_first)
        self._is_first = False
        await self._answer.put([part])

    def _logprobs(self, parts: Sequence[GeneratedPart], offset: int) -> object:
        """Writes log-probabilities as the dialect does; text that was held back is the last token's."""
        if not self._answer.has_logprobs:
            return None
        tokens: list[Token] = []
        for part in parts:
            if part.token_id is not None:
                logprob = None if part.logprob is None else max(part.logprob, _LEAST_LOGPROB)
                tokens.append(Token(part.text, logprob, offset))
            elif tokens:
                tokens[-1].text += part.text
            offset += len(part.text)
        return self._answer.words.logprobs(tokens)


async def write_texts(
    call: Call,
    form: WritingOptions,
    words: Words,
    served: Served[GeneratingModel],
    prompts: Sequence[Prefix],
    sampling: Sampling,
) -> Reply | None:
    """Has a model that is in use write behind prompts whose size is checked; None: the answer went as events."""
    truncation = call.truncation(cuts(form.truncate_prompt_tokens))
    # A queue has room for so many requests, of all callers: all prompts at once would never find it on their own.
    room = asyncio.Semaphore(call.core.config.score_stream_window)
    answer = _Answer(call, form, words, served.description, sampling.logprobs)
    texts = form.texts

    async def written(prompt: Prefix, sampling: Sampling, place: int) -> tuple[object, GenerateResult]:
        def submit(parts: Parts, left_s: float | None) -> "Future[GenerateResult]":
            return served.model.submit_generate(
                prompt, sampling, left_s, truncation=truncation, on_part=parts.put
            )

        text = _Text(answer, place)
        async with room:
            result = await _write(call, submit, text)
        return await text.end(result), result

    ends = await all_or_none(
        written(prompt, _another(sampling, text), place * texts + text)
        for place, prompt in enumerate(prompts)
        for text in range(texts)
    )
    usage = _usage([result for _, result in ends], texts)
    if not form.stream:
        body = answer.body(words.whole, [choice for choice, _ in ends], usage=usage)
        return Reply(body, answer.headers)
    if form.stream_options is not None and form.stream_options.include_usage:
        await answer.put([], usage)
    await call.events.put("[DONE]", answer.headers)
    return None


async def _write(
    call: Call, submit: "Callable[[Parts, float | None], Future[GenerateResult]]", text: _Text
) -> GenerateResult:
    parts = Parts()
    writing = asyncio.ensure_future(call.run(partial(submit, parts)))
    writing.add_done_callback(lambda _: parts.end())
    try:
        async for several in parts:
            await text.take(several)
        return await writing
    finally:
        writing.cancel()


def _another(sampling: Sampling, text: int) -> Sampling:
    """Gives each further text of a prompt a seed of its own, as vLLM does: the same one would give the same text."""
    return sampling if sampling.seed is None or text == 0 else replace(sampling, seed=sampling.seed + text)


def _usage(results: Sequence[GenerateResult], texts: int) -> Mapping[str, object]:
    """Counts tokens: those of a prompt once, whatever number of texts it has."""
    usages = [result.usage for result in results]
    cached = sum(usage.prompt_tokens_cached for usage in usages[::texts])
    read = cached + sum(usage.prompt_tokens_computed for usage in usages[::texts])
    written = sum(usage.generated_tokens for usage in usages)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
