"""Options of the dialects in which generators write: what they have in common, as `Sampling`."""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from pydantic import Field

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import Sampling
from rankport.protos.types import ModelDescription
from rankport.runtime.server.http.forms import FAIL_FAST, Form, OneOf, Texts, TokenIds, refuse

MAX_TEXTS = 128  # of a prompt, OpenAI's own limit
Number = TypeVar("Number", int, float)

_SIGNS = re.compile(r"[\\.+*?()|\[\]{}^$]")  # that mean something in a pattern


class StreamOptions(Form):
    """Options of a stream."""

    include_usage: bool = False
    include_obfuscation: bool | None = None  # OpenAI's padding of events: there is none


class StructuredOutputs(OneOf):
    """Form that the text must have: JSON by a schema, a pattern, or one of several texts."""

    json_: Mapping[str, Any] | str | None = Field(None, alias="json")
    regex: str | None = None
    choice: Texts | None = None

    def pattern(self) -> str | None:
        """Writes what is no schema as a pattern. Raises `InvalidRequest` for choices of which one is empty, or none."""
        if self.choice is None:
            return self.regex
        if not self.choice or "" in self.choice:
            raise InvalidRequest(
                "structured_outputs.choice is empty, or has an empty text: give texts to choose of"
            )
        return "|".join(_SIGNS.sub(r"\\\g<0>", text) for text in self.choice)


class SaidAnyway(Form):
    """Fields that clients send on their own: labels, which have no effect, and defaults, which hold anyway."""

    user: str | None = None  # this and the following name things for logs and caches of others
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: Mapping[str, str] | None = None
    request_id: str | None = None
    store: bool | None = None
    service_tier: str | None = None
    modalities: Texts | None = None
    tools: Annotated[list[Any], FAIL_FAST] | None = None
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None  # of tools, of which there are none
    skip_special_tokens: bool | None = None  # this and the following are vLLM's
    spaces_between_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    return_token_ids: bool | None = None
    bad_words: Texts | None = None
    priority: int | None = None

    def refuse_unusual(self, usual: Mapping[str, tuple[tuple[object, ...], str]]) -> None:
        """Raises `InvalidRequest` for a field with a value beside the usual ones, which tells what to do instead."""
        for name, (values, instead) in usual.items():
            value = getattr(self, name)
            if value not in values:
                raise InvalidRequest(f"{name} is {value!r:.60}, which this server cannot do: {instead}")


_LEAVE_OUT = "leave it out"
_USUAL: Mapping[str, tuple[tuple[object, ...], str]] = MappingProxyType(
    {
        "store": ((None, False), "nothing is kept of a request: leave it out"),
        "service_tier": ((None, "auto", "default"), "leave it out, header x-priority has two classes"),
        "modalities": ((None, [], ["text"]), "models write text: leave it out"),
        "tools": ((None, []), "models call none: leave them out, for JSON give response_format"),
        "tool_choice": ((None, "none", "auto"), "models call no tools: leave it out"),
        "skip_special_tokens": ((None, True), "special tokens are no part of a text: leave it out"),
        "spaces_between_special_tokens": ((None, True), _LEAVE_OUT),
        "include_stop_str_in_output": (
            (None, False),
            "a text of stop is no part of what it ends: leave it out",
        ),
        "return_tokens_as_token_ids": ((None, False), _LEAVE_OUT),
        "return_token_ids": ((None, False), _LEAVE_OUT),
        "bad_words": ((None, []), "give logit_bias, by token"),
        "priority": ((None, 0), "leave it out, header x-priority has two classes"),
    }
)


class WritingOptions(SaidAnyway):
    """Options that both dialects have. What they do not say, the bundle says."""

    model: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | Texts | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None  # texts of each prompt
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None  # by token id
    top_k: int | None = None  # this and the following are vLLM's
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop_token_ids: TokenIds | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    use_beam_search: bool | None = None  # true: n texts by as many beams; false: none
    length_penalty: float | None = None
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
        self, max_tokens: int | None, logprobs: int | None, json_schema: Mapping[str, Any] | str | None
    ) -> Sampling:
        """Tells how to write, with what the dialects say each in its own words; `logprobs` of so many other tokens.

        Raises `InvalidRequest` for what this server cannot do, or a value out of range.
        """
        self.refuse_unusual(_USUAL)
        if self.use_beam_search:
            refuse("temperature", self.temperature or None, "beams take the likeliest texts: give 0")
        if self.stream_options is not None:
            if not self.stream:
                raise InvalidRequest("stream_options is given, and stream is not: set it to true")
            refuse("include_obfuscation", self.stream_options.include_obfuscation, "leave it out")
        form = self.structured_outputs
        if form is not None and form.json_ is None and form.regex is None and form.choice is None:
            raise InvalidRequest(
                "structured_outputs is given, and its form is null: give json, regex or choice a value"
            )
        if form is not None and json_schema is not None:
            raise InvalidRequest("structured_outputs and response_format are both given: give one of them")
        return Sampling(
            max_tokens=max_tokens,
            temperature=0.0 if self.use_beam_search else self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=tuple((_token_id(name), bias) for name, bias in (self.logit_bias or {}).items()),
            min_tokens=self.min_tokens,
            ignore_eos=bool(self.ignore_eos),
            seed=self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            stop_ids=tuple(self.stop_token_ids or ()),
            logprobs=logprobs is not None,
            top_logprobs=logprobs or 0,
            json_schema=json_schema if form is None else form.json_,
            regex=None if form is None else form.pattern(),
        )

    def with_beams(self, sampling: Sampling, model: ModelDescription, *, finds_beams: bool) -> Sampling:
        """Adds what is said of beams. Raises `InvalidRequest` for beams of a model that finds none."""
        if finds_beams:
            beams = None if self.use_beam_search is None else self.texts if self.use_beam_search else 1
            return replace(sampling, beams=beams, length_penalty=self.length_penalty)
        for name, usual in (("use_beam_search", False), ("length_penalty", 1.0)):
            refuse(
                name,
                unless(getattr(self, name), usual),
                f"model {model.name!r} writes token by token: leave it out, n draws several texts",
            )
        return sampling


def unless(value: Number | None, usual: Number) -> Number | None:
    """Returns a value, or None for the usual one."""
    return None if value == usual else value


def _token_id(name: str) -> int:
    if not (name.isascii() and name.isdecimal() and len(name) < 20):
        raise InvalidRequest(f"logit_bias has {name!r:.40}: give token ids, as texts")
    return int(name)
