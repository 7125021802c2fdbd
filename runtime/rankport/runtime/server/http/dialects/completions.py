"""OpenAI's completions: `/v1/completions`, with what vLLM adds to them. Texts behind prompts, whole or as events."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any
from uuid import uuid4

from pydantic import Field

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import GeneratedPart, GenerateResult, Sampling
from rankport.protos.types import ModelDescription, Prefix
from rankport.runtime.server.http.answers import EventStream
from rankport.runtime.server.http.call import Call, Reply, all_or_none
from rankport.runtime.server.http.dialect import Dialect, openai_error
from rankport.runtime.server.http.forms import (
    FAIL_FAST,
    Form,
    OneOf,
    PromptObject,
    Texts,
    TokenIds,
    prompt_tokens,
    prompt_value,
    refuse,
)
from rankport.runtime.server.http.scoring import own_headers
from rankport.runtime.server.http.vllm_options import cuts
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


class OpenAiCompletions(Form):
    """Request of OpenAI's completions. What it does not say, the bundle says."""

    model: str = ""
    prompt: str | Texts | TokenIds | Annotated[list[TokenIds], FAIL_FAST] | PromptObject
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | Texts | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: int | None = None  # 0: of the tokens that are written
    user: str | None = None  # names the end user for logs, and has no effect
    n: int | None = None  # texts of each prompt
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    top_k: int | None = None  # this and the following are vLLM's
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop_token_ids: TokenIds | None = None
    truncate_prompt_tokens: int | None = None  # -1: to what the model takes
    structured_outputs: StructuredOutputs | None = None

    def sampling(self) -> Sampling:
        """Tells how to write. Raises `InvalidRequest` for what this server cannot do, or a value out of range."""
        refuse("best_of", _unless(self.best_of, self.texts), "leave it out, all n texts are given")
        for name in ("echo", "suffix", "presence_penalty", "frequency_penalty", "logit_bias"):
            refuse(name, getattr(self, name) or None, "leave it out")
        refuse("logprobs", _unless(self.logprobs, 0), "give 0, for those of the tokens that are written")
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options is given, and stream is not: set it to true")
        form = self.structured_outputs
        if form is not None and form.json_ is None and form.regex is None:
            raise InvalidRequest(
                "structured_outputs is given, and its form is null: give json or regex a value"
            )
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            stop_ids=tuple(self.stop_token_ids or ()),
            logprobs=self.logprobs is not None,
            json_schema=None if form is None else form.json_,
            regex=None if form is None else form.regex,
        )

    @property
    def texts(self) -> int:
        """Counts the texts of each prompt. Raises `InvalidRequest` for a number that cannot be."""
        if self.n is None:
            return 1
        if not 1 <= self.n <= MAX_TEXTS:
            raise InvalidRequest(f"n is {self.n}: give a number from 1 to {MAX_TEXTS}")
        return self.n

    def prompts(self) -> list[Prefix]:
        """Lists the prompts as models take them."""
        if isinstance(self.prompt, str | PromptObject):
            return [prompt_value(self.prompt)]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]  # forms let no mixture through
        return [*self.prompt]


def _unless(value: int | None, usual: int) -> int | None:
    return None if value == usual else value


@dataclass(frozen=True, slots=True)
class _Answer:
    """Answer under way: what its body or each of its events begins with."""

    form: OpenAiCompletions
    events: EventStream
    model: ModelDescription
    id: str = field(default_factory=lambda: f"cmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that say which model answers."""
        return own_headers(self.model)

    def body(self, choices: Sequence[object], **usage: object) -> Mapping[str, object]:
        """Writes a body, or an event."""
        head = {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model.name}
        return {**head, "choices": choices, **usage}

    async def put(self, choices: Sequence[object], usage: object = None) -> None:
        """Sends an event, with a place for the usage where it is asked for."""
        options = self.form.stream_options
        counted = {"usage": usage} if options is not None and options.include_usage else {}
        await self.events.put(self.body(choices, **counted), self.headers)


class _Text:
    """Text of one prompt as it is written, whole or in events."""

    def __init__(self, answer: _Answer, place: int) -> None:
        self._answer, self._place = answer, place
        self._sent = ""
        self._parts: list[GeneratedPart] = []

    async def take(self, parts: Sequence[GeneratedPart]) -> None:
        """Takes parts, and sends them where the answer is a stream."""
        if not self._answer.form.stream:
            self._parts += parts
            return
        text, logprobs = "".join(part.text for part in parts), self._logprobs(parts, len(self._sent))
        self._sent += text
        if text or logprobs is not None:
            await self._answer.put([self._choice(text, logprobs, None)])

    async def end(self, result: GenerateResult) -> object:
        """Gives the choice of a whole text; sends the last one of a stream, with what no part told."""
        if not self._answer.form.stream:
            return self._choice(result.text, self._logprobs(self._parts, 0), result.finish_reason)
        rest = result.text[len(self._sent) :]
        last = self._choice(rest, None, result.finish_reason)
        await self._answer.put([last])
        return last

    def _choice(self, text: str, logprobs: object, reason: str | None) -> object:
        return {"index": self._place, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, parts: Sequence[GeneratedPart], offset: int) -> object:
        """Writes log-probabilities as OpenAI's clients read them; text that was held back is the last token's."""
        if self._answer.form.logprobs is None:
            return None
        tokens: list[str] = []
        values: list[float | None] = []
        offsets: list[int] = []
        for part in parts:
            if part.token_id is not None:
                tokens.append(part.text)
                values.append(None if part.logprob is None else max(part.logprob, _LEAST_LOGPROB))
                offsets.append(offset)
            elif tokens:
                tokens[-1] += part.text
            offset += len(part.text)
        return {"tokens": tokens, "token_logprobs": values, "top_logprobs": None, "text_offset": offsets}


async def _complete(call: Call, form: OpenAiCompletions) -> Reply | None:
    prompts, sampling = form.prompts(), form.sampling()
    truncation = call.truncation(cuts(form.truncate_prompt_tokens))
    texts = form.texts
    written_tokens = (sampling.max_tokens or 0) * len(prompts)
    call.check_size(len(prompts) * texts, (_known_tokens(form, prompts) + written_tokens) * texts)
    # A queue has room for so many requests, of all callers: all prompts at once would never find it on their own.
    room = asyncio.Semaphore(call.core.config.score_stream_window)
    with call.generator(form.model) as served:
        answer = _Answer(form, call.events, served.description)

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
        return Reply(answer.body([choice for choice, _ in ends], usage=usage), answer.headers)
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


def _known_tokens(form: OpenAiCompletions, prompts: Sequence[Prefix]) -> int:
    if isinstance(form.prompt, PromptObject):
        return prompt_tokens(form.prompt)
    return sum(len(prompt) for prompt in prompts if not isinstance(prompt, str))


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


COMPLETE = Dialect(
    "OpenAI and vLLM: write texts behind prompts", OpenAiCompletions, _complete, openai_error, "generates"
)
