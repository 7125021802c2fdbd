"""Writes texts behind prompts: many at once, a token of each a pass, prompts computed once.

Owns the life of a text from its prompt's tokens to its end. KV of prompts is `prefixes`', of texts the backend's; the
queue and the thread are `worker`'s; which token comes next is `sampler`'s.

A text's life: queued; active, its prompt leased as far as cached; the prompt but for its last token prefilled in
chunks; then that token, and each one that is drawn, decoded in passes shared with all other texts. Deadlines and
cancellations are checked before each pass: nothing is computed for a text that nobody waits for.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from rankport.protos.errors import BackendError
from rankport.protos.generation import FinishReason, GeneratedPart
from rankport.runtime.backends.contract import DecodeBackend, SequenceKV
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.generator.sampler import Logits, Sampler, logprob
from rankport.runtime.kinds.generator.writer import Writer
from rankport.runtime.kinds.queued_engine import QueuedEngine
from rankport.runtime.scheduling.pass_results import check_count
from rankport.runtime.scheduling.prefix_cache import CacheStats, PrefixCache
from rankport.runtime.scheduling.prefixes import Prefixes, PrefixRequest, prefix_key
from rankport.runtime.scheduling.work import Pass, PassSize, on_device, taking_part
from rankport.runtime.scheduling.worker import Clock, Worker
from rankport.runtime.tokens import TokenRun

OnPart = Callable[[GeneratedPart], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOrder:
    """A text to be written."""

    sampler: Sampler
    writer: Writer | None  # None: no tokenizer, and no text
    stop_ids: frozenset[int]
    max_tokens: int
    logprobs: bool
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


class GenerationEngine(QueuedEngine):
    """A decoding backend, its prefix cache and its queue. Thread-safe; owns and closes the backend."""

    def __init__(
        self, backend: DecodeBackend, config: EngineConfig = DEFAULTS, *, clock: Clock = time.monotonic
    ) -> None:
        self._work = _GenerationWork(backend, config)
        super().__init__(Worker(self._work, config, name="rankport-generation", clock=clock))
        self._clock = clock

    def submit(
        self,
        prompt: TokenRun,
        order: TextOrder,
        timeout_s: float | None = None,
        *,
        spent_s: float = 0.0,
    ) -> "Future[Written]":
        """Queues a text behind a prompt of at least one token, `spent_s` of its `timeout_s` gone.

        The future can be cancelled until the text is complete. Raises `Overloaded`, `Unavailable`; the future raises
        `DeadlineExceeded`, `BackendError`, `Unavailable`.
        """
        before = TokenRun(prompt.ids[:-1])
        tokens = len(prompt.ids) + order.max_tokens
        request = _TextRequest(
            tokens=tokens,
            to_compute=tokens,
            submitted_s=self._clock(),
            timeout_s=timeout_s,
            spent_s=spent_s,
            prefix=before,
            key=prefix_key(before),
            order=order,
            next_token=int(prompt.ids[-1]),
        )
        self._worker.submit(request)
        return request.future

    def cache_stats(self) -> CacheStats:
        """Returns a snapshot of the prefix cache's counters."""
        return self._work.cache.stats()


@dataclass(slots=True, eq=False, kw_only=True)
class _TextRequest(PrefixRequest):
    order: TextOrder
    next_token: int  # that the next pass decodes
    sequence: SequenceKV | None = None  # from the first decoded token on
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    steps: int = 0
    finish_reason: FinishReason | None = None
    failure: BackendError | None = None

    @property
    def exhausted(self) -> bool:
        return self.finished

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None or self.failure is not None

    def take(self, logits: Logits) -> None:
        """Draws the next token and tells it."""
        if not np.isfinite(logits).all():
            self.failure = BackendError(
                f"the device gave a logit that is not finite, at token {self.steps} of the text"
            )
            return
        order, token = self.order, self.order.sampler.draw(logits)
        self.steps += 1
        if token in order.stop_ids:
            self._end("stop")
            return
        self.ids.append(token)
        chance = logprob(logits, token) if order.logprobs else None
        if chance is not None:
            self.logprobs.append(chance)
        text = "" if order.writer is None else order.writer.add(token)
        stopped = order.writer is not None and order.writer.stopped
        self.next_token = token
        if stopped or self.steps == order.max_tokens:
            text += self._rest()
            self.finish_reason = "stop" if order.writer is not None and order.writer.stopped else "length"
        if order.on_part is not None:
            order.on_part(GeneratedPart(text, token, chance))

    def answer(self, waited_s: float) -> Written:
        if self.failure is not None:
            raise self.failure
        assert self.finish_reason is not None
        return Written(
            token_ids=tuple(self.ids),
            logprobs=tuple(self.logprobs),
            text="" if self.order.writer is None else self.order.writer.text,
            finish_reason=self.finish_reason,
            steps=self.steps,
            prompt_tokens_cached=self.prefix_tokens_cached,
            prompt_tokens_computed=self.prefix_tokens_computed + 1,  # the last one is decoded
            queue_s=waited_s,
            compute_s=self.compute_s,
        )

    def _end(self, reason: FinishReason) -> None:
        rest = self._rest()
        self.finish_reason = reason
        if rest and self.order.on_part is not None:
            self.order.on_part(GeneratedPart(rest, None))

    def _rest(self) -> str:
        return "" if self.order.writer is None else self.order.writer.end()


class _GenerationWork:
    """Prefill and decode passes over the backend; lives in the worker's thread."""

    def __init__(self, backend: DecodeBackend, config: EngineConfig) -> None:
        split = partial(on_device, "splitting KV", backend.split)
        self.cache = PrefixCache(config.prefix_cache_bytes, split)
        self._backend = backend
        self._prefixes = Prefixes[_TextRequest](self.cache, backend.prefill, config)
        self._prefilled_last = False

    def prepare(self, request: _TextRequest) -> None:
        """Leases the prompt as far as it is cached by now, until the text has KV of its own."""
        if request.sequence is None:
            self._prefixes.prepare(request)

    def plan(self, active: Sequence[_TextRequest], max_bulk_tokens: int | None) -> Pass[_TextRequest]:
        """Plans prefill and decode passes in turn, while there is work for both."""
        ready = [request for request in active if self._is_ready(request)]
        waiting = [request for request in active if not self._is_ready(request)]
        self._prefilled_last = bool(waiting) and not (ready and self._prefilled_last)
        if self._prefilled_last:
            return self._prefixes.plan(waiting, max_bulk_tokens)
        ones = [1] * len(ready)
        return taking_part(
            ready, ones, ones, self._decode, PassSize("decode", len(ready), len(ready), len(ready))
        )

    def retire(self, request: _TextRequest) -> None:
        """Returns the lease and the text's KV."""
        self._prefixes.retire(request)
        if request.sequence is not None:
            sequence, request.sequence = request.sequence, None
            self._backend.end(sequence)

    def close(self) -> None:
        """Drops the cache's KV before the device that holds it."""
        self.cache.clear()
        self._backend.close()

    def _is_ready(self, request: _TextRequest) -> bool:
        return request.sequence is not None or self._prefixes.is_complete(request)

    def _decode(self, shares: Sequence[tuple[_TextRequest, int]]) -> None:
        """Decodes the next token of each text."""
        requests = [request for request, _ in shares]
        sequences = [self._sequence(request) for request in requests]
        tokens = np.array([request.next_token for request in requests], np.int64)
        logits = on_device("decode", self._backend.decode, sequences, tokens)
        check_count("decode", len(logits), len(requests))
        for request, row in zip(requests, logits, strict=True):
            request.take(row)

    def _sequence(self, request: _TextRequest) -> SequenceKV:
        if request.sequence is None:
            lease = self._prefixes.lease(request)
            request.sequence = on_device("beginning a text", self._backend.begin, lease.pieces())
            self._prefixes.retire(request)
        return request.sequence
