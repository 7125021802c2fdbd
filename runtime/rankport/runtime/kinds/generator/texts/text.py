"""Texts on their way through an engine: what is asked, what is known of each, and what comes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, InvalidRequest, RankportError
from rankport.protos.generation import FinishReason, GeneratedBeam, GeneratedPart, TokenLogprob
from rankport.runtime.backends.write_contract import Likeliest, SequenceKV
from rankport.runtime.kinds.generator.texts.adjustments import Logits
from rankport.runtime.kinds.generator.texts.sampler import Sampler, likeliest_tokens, logprobs
from rankport.runtime.kinds.generator.texts.writer import Writer
from rankport.runtime.scheduling.passes.pass_results import check_count
from rankport.runtime.scheduling.passes.prefixes import TokenPrefixRequest
from rankport.runtime.scheduling.work import Request, on_device

OnPart = Callable[[GeneratedPart], None]
Chances = tuple[Sequence[int], Sequence[float]]
"""The likeliest tokens in a place, the best first, and their log-probabilities."""
_NONE: Chances = (), ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOrder:
    """A text to be written."""

    sampler: Sampler
    writer: Writer | None  # None: no tokenizer, and no text
    stop_ids: frozenset[int]
    max_tokens: int
    logprobs: bool
    top_logprobs: int = 0  # likeliest tokens that are told in the place of each
    on_part: OnPart | None = None  # called by the engine's thread, which it must not hold up


@dataclass(frozen=True, slots=True)
class Written:
    """A text that is written."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]  # [token_ids], none unless asked for
    text: str
    finish_reason: FinishReason
    steps: int
    prompt_tokens_cached: int
    prompt_tokens_computed: int
    queue_s: float
    compute_s: float
    top_logprobs: tuple[tuple[TokenLogprob, ...], ...] = ()  # [token_ids], none unless asked for
    beams: tuple[GeneratedBeam, ...] = ()  # all that a beam search found, this one first


@dataclass(slots=True, eq=False, kw_only=True)
class Text:
    """A text that is being written, as far as it goes."""

    order: TextOrder
    next_token: int  # that the next pass decodes
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[tuple[TokenLogprob, ...]] = field(default_factory=list)
    steps: int = 0
    finish_reason: FinishReason | None = None
    failure: RankportError | None = None

    @property
    def finished(self) -> bool:
        """True when nothing is to be added."""
        return self.finish_reason is not None or self.failure is not None

    def take(self, logits: Logits) -> None:
        """Draws the next token and tells it."""
        if not np.isfinite(logits).all():
            self.failure = not_finite(self.steps)
            return
        order = self.order
        try:
            token = order.sampler.draw(logits)
        except RankportError as error:
            self.failure = error
            return
        if not order.logprobs:
            self._add(token)
            return
        best = likeliest_tokens(logits, order.top_logprobs) if order.top_logprobs else np.array([], np.int64)
        chance, *chances = logprobs(logits, np.append(token, best)).tolist()
        self._add(token, chance, (best.tolist(), chances))

    def take_likeliest(self, found: Likeliest, place: int) -> bool:
        """Draws the next token of the likeliest of its place, and tells it; False where it needs all logits."""
        order = self.order
        tokens, logits, log_sum = found.tokens[place], found.logits[place], float(found.log_sums[place])
        if not np.isfinite(log_sum):
            self.failure = not_finite(self.steps)
            return True
        best, bound = _best(tokens, logits, order.top_logprobs), float(found.bounds[place])
        if len(best) < order.top_logprobs or (len(best) and logits[best[-1]] <= bound):
            return False  # another may be as likely as the last
        token = order.sampler.draw_likeliest(tokens, logits, bound)
        if token is None:
            return False
        chance = float(logits[tokens == token][0]) - log_sum
        chances = (logits[best].astype(np.float64) - log_sum).tolist()
        self._add(token, chance if order.logprobs else None, (tokens[best].tolist(), chances))
        return True

    def _add(self, token: int, chance: float | None = None, likeliest: Chances = _NONE) -> None:
        order = self.order
        self.steps += 1
        if token in order.stop_ids:
            self._end("stop")
            return
        self.ids.append(token)
        if chance is not None:
            self.logprobs.append(chance)
        top = self._told_of(likeliest)
        if top:
            self.top_logprobs.append(top)
        text = "" if order.writer is None else order.writer.add(token)
        stopped = order.sampler.ended or (order.writer is not None and order.writer.stopped)
        self.next_token = token
        if stopped or self.steps == order.max_tokens:
            text += self._rest()
            stopped = stopped or (order.writer is not None and order.writer.stopped)
            self.finish_reason = "stop" if stopped else "length"
        self._tell(GeneratedPart(text, token, chance, top))

    def _told_of(self, likeliest: Chances) -> tuple[TokenLogprob, ...]:
        """Tells tokens that could be next, before one is."""
        writer = self.order.writer
        return tuple(
            TokenLogprob(token, "" if writer is None else writer.would_add(token), chance)
            for token, chance in zip(*likeliest, strict=True)
        )

    def written(self, request: Request, waited_s: float, *, cached: int, computed: int) -> Written:
        """Makes what was asked for by a request, of whose prompt so many tokens were cached and computed."""
        if self.failure is not None:
            raise self.failure
        assert self.finish_reason is not None
        return Written(
            token_ids=tuple(self.ids),
            logprobs=tuple(self.logprobs),
            text="" if self.order.writer is None else self.order.writer.text,
            finish_reason=self.finish_reason,
            steps=self.steps,
            prompt_tokens_cached=cached,
            prompt_tokens_computed=computed,
            queue_s=waited_s,
            compute_s=request.compute_s,
            top_logprobs=tuple(self.top_logprobs),
        )

    def _end(self, reason: FinishReason) -> None:
        rest = self._rest()
        self.finish_reason = reason
        if rest:
            self._tell(GeneratedPart(rest, None))

    def _tell(self, part: GeneratedPart) -> None:
        self.failure = tell(self.order.on_part, part)

    def _rest(self) -> str:
        return "" if self.order.writer is None else self.order.writer.end()


@dataclass(slots=True, eq=False, kw_only=True)
class TextRequest(TokenPrefixRequest):
    """A text that is written behind a prompt."""

    text: Text
    sequence: SequenceKV | None = None  # from the first decoded token on

    @property
    def exhausted(self) -> bool:
        return self.text.finished

    @property
    def finished(self) -> bool:
        return self.text.finished

    def answer(self, waited_s: float) -> Written:
        computed = self.prefix_tokens_computed + 1  # the last one is decoded
        return self.text.written(self, waited_s, cached=self.prefix_tokens_cached, computed=computed)


def _best(tokens: NDArray[np.int64], logits: Logits, count: int) -> NDArray[np.int64]:
    """Finds the places of the `count` largest logits, the largest first; of equal ones the lower token. [count]"""
    if not count:
        return np.array([], np.int64)
    places: NDArray[np.int64] = np.lexsort((tokens, -logits))[:count]
    return places


def take_likeliest(texts: Sequence[Text], found: Likeliest) -> None:
    """Has texts take their next tokens, of the likeliest as far as these are enough, else of all logits.

    The step is done: repeated, it would put each token behind itself. So texts fail whose logits do not come.
    """
    left = [
        place
        for place, text in enumerate(texts)
        if text.order.sampler.needs_all or not text.take_likeliest(found, place)
    ]
    if not left:
        return
    try:
        logits = on_device("decode", found.rows, np.array(left))
        check_count("decode", len(logits), len(left))
    except RankportError as error:
        for place in left:
            texts[place].failure = error
        return
    for place, row in zip(left, logits, strict=True):
        texts[place].take(row)


def tell(on_part: OnPart | None, part: GeneratedPart) -> RankportError | None:
    """Tells the caller; gives what its function raises, which fails its text alone: the engine's thread runs it."""
    if on_part is None:
        return None
    try:
        on_part(part)
    except Exception as error:
        return InvalidRequest(f"on_part raised {type(error).__name__}: {error}")
    return None


def not_finite(token: int) -> BackendError:
    """Makes the error of logits that are none."""
    return BackendError(f"the device gave a logit that is not finite, at token {token} of the text")
