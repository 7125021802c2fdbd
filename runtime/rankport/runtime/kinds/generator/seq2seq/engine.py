"""Answers texts by other texts: many at once, each read once.

Owns the passes. The encoder's, and one for each token of the answers, are shared by all texts at hand; those of one
pass have as many beams. The queue and the thread are `worker`'s, keys and values the backend's; what a pass changes of
a request, `requests` know. Deadlines and cancellations are checked before each pass.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from rankport.runtime.backends.write_contract import Seq2SeqBackend
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.generator.seq2seq.requests import (
    AnswerRequest,
    BeamOrder,
    BeamRequest,
    SourceRequest,
)
from rankport.runtime.kinds.generator.texts.text import Text, TextOrder, Written
from rankport.runtime.kinds.queued_engine import QueuedEngine
from rankport.runtime.scheduling.passes.pass_plan import ItemWork, PassLimits, items_size, plan_items
from rankport.runtime.scheduling.passes.pass_results import check_count
from rankport.runtime.scheduling.work import Pass, PassSize, on_device, taking_part
from rankport.runtime.scheduling.worker import Clock, Worker
from rankport.runtime.tokens import TokenRun, TokenRuns


class Seq2SeqEngine(QueuedEngine):
    """A backend of an encoder-decoder and its queue. Thread-safe; owns and closes the backend."""

    def __init__(
        self,
        backend: Seq2SeqBackend,
        start_id: int,
        config: EngineConfig = DEFAULTS,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        """Takes the backend over, whose answers begin behind the token `start_id`."""
        super().__init__(Worker(_Seq2SeqWork(backend, config), config, name="rankport-seq2seq", clock=clock))
        self._clock, self._start_id = clock, start_id

    def submit(
        self,
        source: TokenRun,
        order: TextOrder | BeamOrder,
        timeout_s: float | None = None,
        *,
        spent_s: float = 0.0,
    ) -> "Future[Written]":
        """Queues a text of at least one token, as `GenerationEngine.submit` does a prompt."""
        tokens = len(source.ids) + order.max_tokens
        common = {
            "tokens": tokens,
            "to_compute": tokens,
            "submitted_s": self._clock(),
            "timeout_s": timeout_s,
            "spent_s": spent_s,
        }
        request: SourceRequest
        if isinstance(order, BeamOrder):
            request = BeamRequest(source=source, order=order, **common)  # type: ignore[arg-type]
        else:
            text = Text(order=order, next_token=self._start_id)
            request = AnswerRequest(source=source, text=text, **common)  # type: ignore[arg-type]
        self._worker.submit(request)
        return request.future


class _Seq2SeqWork:
    """Passes over the backend; lives in the worker's thread."""

    def __init__(self, backend: Seq2SeqBackend, config: EngineConfig) -> None:
        self._backend = backend
        self._limits = PassLimits(config.text_batch_tokens, config.max_padding_ratio)
        self._encoded_last = False

    def prepare(self, request: SourceRequest) -> bool:
        """Does nothing: a text needs nothing computed before it is read."""
        return True

    def plan(self, active: Sequence[SourceRequest], max_bulk_tokens: int | None) -> Pass[SourceRequest]:
        """Plans a pass of the encoder, or a token of answers: in turn, where there is work for both."""
        unread = [request for request in active if request.answers is None]
        read = [request for request in active if request.answers is not None]
        self._encoded_last = bool(unread) and not (read and self._encoded_last)
        return self._plan_encode(unread, max_bulk_tokens) if self._encoded_last else self._plan_decode(read)

    def retire(self, request: SourceRequest) -> None:
        """Frees what the backend has of a text."""
        if request.answers is not None:
            answers, request.answers = request.answers, None
            self._backend.end(answers)

    def close(self) -> None:
        """Frees the device."""
        self._backend.close()

    def _plan_encode(
        self, requests: Sequence[SourceRequest], max_bulk_tokens: int | None
    ) -> Pass[SourceRequest]:
        lengths = [len(request.source.ids) for request in requests]
        work = [
            ItemWork(np.array([length]), past=0, branch=None, large=request.large)
            for request, length in zip(requests, lengths, strict=True)
        ]
        takes = plan_items(work, replace(self._limits, max_bulk_tokens=max_bulk_tokens))
        tokens = [length * take for length, take in zip(lengths, takes, strict=True)]
        return taking_part(requests, takes, tokens, self._read, items_size("encode", work, takes))

    def _plan_decode(self, requests: Sequence[SourceRequest]) -> Pass[SourceRequest]:
        width = requests[0].width  # whose turn it is
        takes = [width if request.width == width else 0 for request in requests]
        total = sum(takes)
        return taking_part(requests, takes, takes, self._go_on, PassSize("decode", total, total, total))

    def _read(self, shares: Sequence[tuple[SourceRequest, int]]) -> None:
        texts = TokenRuns.of([request.source for request, _ in shares])
        widths = [request.width for request, _ in shares]
        answers = on_device("encode", self._backend.encode, texts, widths)
        check_count("encode", len(answers), len(shares))
        for (request, _), begun in zip(shares, answers, strict=True):
            request.answers = begun

    def _go_on(self, shares: Sequence[tuple[SourceRequest, int]]) -> None:
        """Decodes the next token of each answer."""
        requests = [request for request, _ in shares]
        answers = [request.answers for request in requests if request.answers is not None]
        tokens = np.array([request.next_tokens for request in requests], np.int64)
        logits = on_device("decode", self._backend.decode, answers, tokens)
        check_count("decode", len(logits), len(requests))
        for request, begun, rows in zip(requests, answers, logits, strict=True):
            request.take(rows)
            parents = request.parents()
            if parents is not None:
                on_device("reordering beams", self._backend.reorder, begun, parents)
