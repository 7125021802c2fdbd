"""Texts that are read, and their answers on the way through an engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, RankportError
from rankport.protos.generation import GeneratedBeam, GeneratedPart
from rankport.runtime.backends.write_contract import AnswerKV
from rankport.runtime.kinds.generator.seq2seq.beams import BeamSearch
from rankport.runtime.kinds.generator.texts.text import OnPart, Text, Written, not_finite, tell
from rankport.runtime.kinds.generator.texts.writer import Writer
from rankport.runtime.scheduling.work import Request
from rankport.runtime.tokens import TokenRun


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamOrder:
    """The likeliest answers to be found."""

    search: BeamSearch
    new_writer: Callable[[], Writer] | None  # None: no tokenizer, and no text
    on_part: OnPart | None = None  # called by the engine's thread, which it must not hold up

    @property
    def max_tokens(self) -> int:
        """Most tokens of an answer."""
        return self.search.constraints.max_tokens


@dataclass(slots=True, eq=False, kw_only=True)
class AnswerRequest(Request):
    """A text that is answered by one text."""

    source: TokenRun
    text: Text
    answers: AnswerKV | None = None  # once it is read

    @property
    def width(self) -> int:
        """Counts the answers."""
        return 1

    @property
    def exhausted(self) -> bool:
        return self.text.finished

    @property
    def finished(self) -> bool:
        return self.text.finished

    @property
    def next_tokens(self) -> list[int]:
        """Tokens of the next pass. [1]"""
        return [self.text.next_token]

    def take(self, logits: NDArray[np.float32]) -> None:
        """Goes on by one token. [1, vocabulary]"""
        self.text.take(logits[0])

    def parents(self) -> None:
        """Gives none: there is one answer."""

    def answer(self, waited_s: float) -> Written:
        return self.text.written(self, waited_s, cached=0, computed=len(self.source.ids))


@dataclass(slots=True, eq=False, kw_only=True)
class BeamRequest(Request):
    """A text that is answered by the likeliest texts."""

    source: TokenRun
    order: BeamOrder
    answers: AnswerKV | None = None  # once it is read
    failure: RankportError | None = None

    @property
    def width(self) -> int:
        """Counts the answers."""
        return self.order.search.rules.width

    @property
    def exhausted(self) -> bool:
        return self.finished

    @property
    def finished(self) -> bool:
        return self.order.search.done or self.failure is not None

    @property
    def next_tokens(self) -> list[int]:
        """Tokens of the next pass. [width]"""
        tokens: list[int] = self.order.search.tokens[:, -1].tolist()
        return tokens

    def take(self, logits: NDArray[np.float32]) -> None:
        """Goes on by one token, and tells the text at the end. [width, vocabulary]"""
        search = self.order.search
        if not np.isfinite(logits).all():
            self.failure = not_finite(search.steps)
            return
        search.extend(logits)
        if search.done and not search.whole:
            self.failure = InvalidRequest(
                "the rules of the text leave no token: allow more tokens, or no min_tokens"
            )
        elif search.done:
            self._tell(search.whole[0].ids)

    def parents(self) -> NDArray[np.int64] | None:
        """Gives the answer that each goes on from; None at the end."""
        return None if self.finished else self.order.search.parents

    def answer(self, waited_s: float) -> Written:
        if self.failure is not None:
            raise self.failure
        search = self.order.search
        beams = tuple(
            GeneratedBeam(self._text_of(text.ids), text.ids, text.score, text.finish_reason)
            for text in search.whole
        )
        best = beams[0]
        return Written(
            token_ids=best.token_ids,
            logprobs=(),
            text=best.text,
            finish_reason=best.finish_reason,
            steps=len(best.token_ids) + (best.finish_reason == "stop"),
            prompt_tokens_cached=0,
            prompt_tokens_computed=len(self.source.ids),
            queue_s=waited_s,
            compute_s=self.compute_s,
            beams=beams,
        )

    def _tell(self, ids: Sequence[int]) -> None:
        new = self.order.new_writer
        writer = None if new is None else new()
        parts = [GeneratedPart("" if writer is None else writer.add(token), token) for token in ids]
        rest = "" if writer is None else writer.end()
        for part in (*parts, *((GeneratedPart(rest, None),) if rest else ())):
            self.failure = self.failure or tell(self.order.on_part, part)

    def _text_of(self, ids: Sequence[int]) -> str:
        if self.order.new_writer is None:
            return ""
        writer = self.order.new_writer()
        for token in ids:
            writer.add(token)
        writer.end()
        return writer.text


SourceRequest = AnswerRequest | BeamRequest
