"""OpenAI's completions: `/v1/completions`, with what vLLM adds to them. Texts behind prompts, whole or as events."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import MAX_TOP_LOGPROBS, Sampling
from rankport.protos.types import Prefix
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect, openai_error
from rankport.runtime.server.http.forms import (
    FAIL_FAST,
    PromptObject,
    Texts,
    TokenIds,
    prompt_tokens,
    prompt_value,
    refuse,
)
from rankport.runtime.server.http.writing import Token, write_texts
from rankport.runtime.server.http.writing_options import WritingOptions, unless


class OpenAiCompletions(WritingOptions):
    """Request of OpenAI's completions. What it does not say, the bundle says."""

    prompt: str | Texts | TokenIds | Annotated[list[TokenIds], FAIL_FAST] | PromptObject
    logprobs: int | None = (
        None  # of the tokens that are written, and of so many likeliest in the place of each
    )
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    add_special_tokens: bool | None = None  # vLLM's

    def sampling(self) -> Sampling:
        """Tells how to write. Raises `InvalidRequest` for what this server cannot do, or a value out of range."""
        refuse("best_of", unless(self.best_of, self.texts), "leave it out, all n texts are given")
        self.refuse_unusual(
            {"add_special_tokens": ((None, True), "give token ids, which are read as they are")}
        )
        for name in ("echo", "suffix"):
            refuse(name, getattr(self, name) or None, "leave it out")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_TOP_LOGPROBS:
            raise InvalidRequest(f"logprobs is {self.logprobs}: give a number from 0 to {MAX_TOP_LOGPROBS}")
        return self.sampling_as(self.max_tokens, self.logprobs, None)

    def prompts(self) -> list[Prefix]:
        """Lists the prompts as models take them. Raises `InvalidRequest` for a list without any."""
        if isinstance(self.prompt, str | PromptObject):
            return [prompt_value(self.prompt)]
        if not self.prompt:
            raise InvalidRequest("prompt is []: give a text, token ids, or a list of either")
        if isinstance(self.prompt[0], int):
            return [self.prompt]  # forms let no mixture through
        return [*self.prompt]


class _Words:
    """Words of completions."""

    id_prefix = "cmpl"
    whole = event = "text_completion"

    def choice(self, place: int, text: str, logprobs: object, reason: str | None) -> object:
        """Writes a whole text."""
        return {"index": place, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def part(self, place: int, text: str, logprobs: object, reason: str | None, *, first: bool) -> object:
        """Writes a part of one, the first as any other."""
        return self.choice(place, text, logprobs, reason)

    def logprobs(self, tokens: Sequence[Token]) -> object:
        """Writes the log-probabilities of tokens."""
        told = [token.likeliest for token in tokens]
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [_likeliest(token) for token in tokens] if any(told) else None,
            "text_offset": [token.offset for token in tokens],
        }


def _likeliest(token: Token) -> Mapping[str, float | None]:
    """Writes the likeliest tokens by their texts, the written one too; of one text the likelier."""
    told: dict[str, float | None] = {}
    for each in token.likeliest:
        told.setdefault(each.text, each.logprob)
    if token.id not in {each.token_id for each in token.likeliest}:
        told.setdefault(token.text, token.logprob)
    return told


async def _complete(call: Call, form: OpenAiCompletions) -> Reply | None:
    prompts, sampling = form.prompts(), form.sampling()
    written_tokens = (sampling.max_tokens or 0) * len(prompts)
    call.check_size(len(prompts) * form.texts, (_known_tokens(form, prompts) + written_tokens) * form.texts)
    with call.generator(form.model) as served:
        return await write_texts(call, form, _Words(), served, prompts, sampling)


def _known_tokens(form: OpenAiCompletions, prompts: Sequence[Prefix]) -> int:
    if isinstance(form.prompt, PromptObject):
        return prompt_tokens(form.prompt)
    return sum(len(prompt) for prompt in prompts if not isinstance(prompt, str))


COMPLETE = Dialect(
    "OpenAI and vLLM: write texts behind prompts", OpenAiCompletions, _complete, openai_error, "generates"
)
