"""Values that `Generator` (in process) and `Client.generate` take and return alike: how to sample, and what is written.

Owns the check of what callers pass as far as it needs no model.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import checked_text
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Brief
from rankport.protos.wording import counted

FinishReason = Literal["stop", "length"]
"""Why a text ends: at one of its ends (a token or text that stops it), or at `max_tokens`."""

MAX_STOPS, MAX_BEAMS = 16, 256
MAX_BIASED = 1024  # tokens, as many as vLLM takes
MAX_TOP_LOGPROBS = 20  # OpenAI's own limit
MAX_GRAMMAR = 65_536  # characters of a schema or a pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Rules by which a text is written. None: as the bundle says. Raises `InvalidRequest` for a value out of range."""

    max_tokens: int | None = None  # None: as many as the bundle allows
    temperature: float | None = None  # 0: the likeliest token, always
    top_p: float | None = None  # the likeliest tokens that have this probability together; 1: all
    top_k: int | None = None  # so many likeliest tokens; 0: all
    min_p: float | None = None  # those at least this many times as probable as the likeliest; 0: all
    repetition_penalty: float | None = None  # 1: none; as transformers has it, over prompt and text
    presence_penalty: float | None = None  # taken off the logit of each token of the text so far; 0: none
    frequency_penalty: float | None = None  # as often as the token is there; both are OpenAI's
    # Added to the logits of tokens; a mapping becomes pairs, the lower token first.
    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...] = ()
    min_tokens: int | None = None  # before an end may come, be it a token or a text of `stop`
    ignore_eos: bool = False  # whether the bundle's own ends are tokens as any
    seed: int | None = None  # same seed, same text; None: another one each time
    stop: tuple[str, ...] = ()  # texts that end it, and are no part of it
    stop_ids: tuple[int, ...] = ()  # tokens that end it, beside the bundle's own
    beams: int | None = (
        None  # of an encoder-decoder: texts found beside each other, the likeliest answers; 1: none
    )
    length_penalty: float | None = None  # of beams: power of a text's tokens that divides its log-probability
    logprobs: bool = False  # whether the log-probability of each token is told
    top_logprobs: int = 0  # with them: those of so many likeliest tokens in its place
    json_schema: Mapping[str, object] | str | None = None  # what the text must be: JSON by this schema
    regex: str | None = None  # or this pattern as a whole, in the syntax of Rust's regex

    def __post_init__(self) -> None:
        object.__setattr__(self, "json_schema", _schema_text(self.json_schema))
        _check_grammar(self)
        _check_count("max_tokens", self.max_tokens, 1)
        _check_count("top_k", self.top_k, 0)
        _check_count("beams", self.beams, 1, MAX_BEAMS)
        _check_count("seed", self.seed, 0)
        _check_number("temperature", self.temperature, 0.0, 100.0)
        _check_number("top_p", self.top_p, 0.0, 1.0, above=True)
        _check_number("min_p", self.min_p, 0.0, 1.0)
        _check_number("repetition_penalty", self.repetition_penalty, 0.0, 100.0, above=True)
        _check_number("length_penalty", self.length_penalty, -10.0, 10.0)
        _check_number("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _check_number("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))
        _check_count("min_tokens", self.min_tokens, 0)
        _check_count("top_logprobs", self.top_logprobs, 0, MAX_TOP_LOGPROBS)
        if not isinstance(self.logprobs, bool):
            raise InvalidRequest(
                f"logprobs is {self.logprobs!r:.40}: give true or false, and to top_logprobs how many others are told"
            )
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequest(f"top_logprobs is {self.top_logprobs}, and logprobs is not set: set it")
        if not isinstance(self.ignore_eos, bool):
            raise InvalidRequest(f"ignore_eos is {self.ignore_eos!r:.40}: give true or false")
        for name, kind, said in (("stop", str, "texts"), ("stop_ids", int | np.integer, "token ids")):
            given = getattr(self, name)
            if not isinstance(given, tuple | list) or not all(
                isinstance(value, kind) and not isinstance(value, bool) for value in given
            ):
                raise InvalidRequest(f"{name} is {given!r:.60}: give a list of {said}")
            if len(given) > MAX_STOPS:
                raise InvalidRequest(f"{name} has {counted(len(given), 'entry')}: give at most {MAX_STOPS}")
        object.__setattr__(self, "stop_ids", tuple(int(token) for token in self.stop_ids))
        for text in self.stop:
            checked_text(text, "stop")
        if "" in self.stop:
            raise InvalidRequest("stop has an empty text, which every text contains: leave it out")


@dataclass(frozen=True, slots=True)
class GenerateUsage:
    """Tokens and seconds that a text cost."""

    prompt_tokens_cached: int
    prompt_tokens_computed: int
    generated_tokens: int  # that which ended the text included
    tokenize_s: float
    queue_s: float
    compute_s: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One of the likeliest tokens in a place of a text."""

    token_id: int
    text: str  # that it would add, its name where it adds none; "" of a bundle without a tokenizer
    logprob: float  # by the model's own logits


@dataclass(frozen=True, slots=True)
class GeneratedPart:
    """Part of a text: what one more step adds."""

    text: str  # whole characters, "" while one is incomplete or may begin a stop text
    token_id: int | None  # None: the text that was held back at the end
    logprob: float | None = None  # of the token by the model's own logits, if asked for
    top_logprobs: tuple[TokenLogprob, ...] = ()  # the likeliest tokens in its place, best first, if asked for


@dataclass(frozen=True, slots=True)
class GeneratedBeam:
    """A text that beams found."""

    text: str
    token_ids: tuple[int, ...]  # without the token that stopped it
    score: float  # sum of its log-probabilities over its tokens, the end included, to the power of the length penalty
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """A text that was written."""

    text: str  # "" of a bundle without a tokenizer
    token_ids: tuple[int, ...]  # without the token that stopped it
    finish_reason: FinishReason
    usage: GenerateUsage
    logprobs: NDArray[np.float32] | None = None  # [token_ids]
    top_logprobs: tuple[tuple[TokenLogprob, ...], ...] = ()  # [token_ids] the likeliest in each place
    beams: tuple[GeneratedBeam, ...] = ()  # all that a beam search found, the best first: it is the text


@dataclass(frozen=True, slots=True, repr=False)
class SearchResult(Brief):
    """Items that a search found, the likeliest first; those of one sequence behind each other."""

    keys: tuple[str, ...]  # [found]
    token_ids: NDArray[np.int64]  # [found, levels]
    scores: NDArray[np.float64]  # [found] sums of log-probabilities of the tokens
    usage: GenerateUsage


def check_search(beams: object, top_k: object) -> None:
    """Raises `InvalidRequest` for what a search over a trie cannot be of."""
    _check_count("beams", beams, 1, MAX_BEAMS)
    _check_count("top_k", top_k, 1)


def _biases(given: object) -> tuple[tuple[int, float], ...]:
    """Lists biases of tokens as pairs, the lower token first."""
    pairs = list(given.items()) if isinstance(given, Mapping) else given
    if not isinstance(pairs, tuple | list) or not all(
        isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs
    ):
        raise InvalidRequest(f"logit_bias is {given!r:.60}: give numbers by token id")
    for token, bias in pairs:
        _check_count("a token of logit_bias", token, 0)
        if bias is None:
            raise InvalidRequest(f"logit_bias of token {token} is None: give a number from -100 to 100")
        _check_number(f"logit_bias of token {token}", bias, -100.0, 100.0)
    if len(pairs) > MAX_BIASED:
        raise InvalidRequest(f"logit_bias has {len(pairs)} tokens: give at most {MAX_BIASED}")
    biases = {int(token): float(bias) for token, bias in pairs}
    if len(biases) < len(pairs):
        raise InvalidRequest("logit_bias has a token twice: give each once")
    return tuple(sorted(biases.items()))


def _schema_text(schema: object) -> str | None:
    """Writes a schema as JSON."""
    if schema is None or isinstance(schema, str):
        return schema
    if not isinstance(schema, Mapping):
        raise InvalidRequest(f"json_schema is {schema!r:.60}: give a schema as a mapping, or its JSON")
    try:
        return json.dumps(dict(schema), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"json_schema is no JSON: {error}") from error


def _check_grammar(sampling: Sampling) -> None:
    said = {name: getattr(sampling, name) for name in ("json_schema", "regex")}
    given = {name: text for name, text in said.items() if text is not None}
    for name, text in given.items():
        if not isinstance(text, str) or not text:
            raise InvalidRequest(f"{name} is {text!r:.60}: give a text, or leave it out")
        checked_text(text, name)
        if len(text) > MAX_GRAMMAR:
            raise InvalidRequest(f"{name} has {len(text)} characters: give at most {MAX_GRAMMAR}")
    if len(given) > 1:
        raise InvalidRequest("json_schema and regex are both given: a text is of one form")
    if given and sampling.stop:
        raise InvalidRequest(f"stop ends a text before it is what {next(iter(given))} says: leave one out")
    if given and sampling.ignore_eos:
        raise InvalidRequest(f"ignore_eos goes on behind what {next(iter(given))} says: leave one out")


def _check_count(name: str, value: object, least: int, most: int = 2**63 - 1) -> None:
    if value is None:
        return
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not least <= value <= most:
        above = isinstance(value, int) and value > most
        end = f"to {most}" if above or most < 2**63 - 1 else "on"
        raise InvalidRequest(f"{name} is {value!r:.40}: give a whole number from {least} {end}")


def _check_number(name: str, value: object, least: float, most: float, *, above: bool = False) -> None:
    if value is None:
        return
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most or (above and value == least):  # type: ignore[arg-type, operator]
        begin = f"above {least:g}" if above else f"from {least:g}"
        raise InvalidRequest(f"{name} is {value!r:.40}: give a number {begin} to {most:g}")
