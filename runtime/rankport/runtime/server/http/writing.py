"""Texts that generators write: what OpenAI's dialects have in common of whole answers and events."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol
from uuid import uuid4

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import GeneratedPart, GenerateResult, Sampling, TokenLogprob
from rankport.protos.types import ModelDescription, Prefix
from rankport.protos.wording import counted
from rankport.runtime.kinds.capabilities import GeneratingModel
from rankport.runtime.server.http.call import Call, Reply, all_or_none
from rankport.runtime.server.http.scoring import own_headers
from rankport.runtime.server.http.vllm_options import cuts
from rankport.runtime.server.http.writing_options import WritingOptions
from rankport.runtime.server.models.models import Served
from rankport.runtime.server.submitter import Parts

_LEAST_LOGPROB = -9999.0  # which JSON has in the place of minus infinity


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

    id: int
    text: str
    logprob: float | None
    offset: int
    likeliest: Sequence[TokenLogprob]  # in its place


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
                tokens.append(Token(part.token_id, part.text, logprob, offset, part.top_logprobs))
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
    sampling = form.with_beams(sampling, served.description, finds_beams=served.model.finds_beams)
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

    by_beams = served.model.finds_beams and not sampling.temperature  # what is drawn is of none

    async def texts_behind(prompt: Prefix, first: int) -> list[tuple[object, GenerateResult]]:
        ends = [await written(prompt, sampling, first)] if by_beams else []
        if by_beams and ends[0][1].beams:
            found = enumerate(_found(ends[0][1], texts), first + 1)
            return ends + [(await _Text(answer, place).end(result), result) for place, result in found]
        return ends + await all_or_none(
            written(prompt, _another(sampling, text), first + text) for text in range(len(ends), texts)
        )

    by_prompt = await all_or_none(texts_behind(prompt, place * texts) for place, prompt in enumerate(prompts))
    ends = [end for of_prompt in by_prompt for end in of_prompt]
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


def _found(result: GenerateResult, texts: int) -> list[GenerateResult]:
    """Lists the texts behind the best one that beams found. Raises `InvalidRequest` where they found fewer."""
    if len(result.beams) < texts:
        raise InvalidRequest(
            f"n is {texts}: the model's beams find {counted(len(result.beams), 'text')}: ask for less"
        )
    return [
        replace(
            result,
            text=beam.text,
            token_ids=beam.token_ids,
            finish_reason=beam.finish_reason,
            usage=replace(
                result.usage, generated_tokens=len(beam.token_ids) + (beam.finish_reason == "stop")
            ),
        )
        for beam in result.beams[1:texts]
    ]


def _another(sampling: Sampling, text: int) -> Sampling:
    """Gives each further text of a prompt a seed of its own, as vLLM does: the same one would give the same text."""
    return sampling if sampling.seed is None else replace(sampling, seed=(sampling.seed + text) % 2**63)


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
