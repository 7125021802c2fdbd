"""Writes texts and searches sequences behind prompts: many at once, prompts computed once.

Owns the passes. KV of prompts is `prefixes`', of texts the backend's; the queue and the thread are `worker`'s; what a
pass changes of a text or a search, `texts` and `searches` know.

A text's life: queued; active, its prompt leased as far as cached; the prompt but for its last token prefilled in
chunks; then that token, and each one that is drawn, decoded in passes shared with all other texts. A search begins
alike; then its beams are runs behind the prompt's KV, in a pass for each of their tokens. Deadlines and cancellations
are checked before each pass: nothing is computed for what nobody waits for.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

import numpy as np

from rankport.runtime.backends.contract import DecodeBackend, PrefixBatch, SequenceKV
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.generator.beams import Beams
from rankport.runtime.kinds.generator.searches import Found, SearchRequest
from rankport.runtime.kinds.generator.texts import Text, TextOrder, TextRequest, Written
from rankport.runtime.kinds.queued_engine import QueuedEngine
from rankport.runtime.scheduling.pass_results import check_count
from rankport.runtime.scheduling.prefix_cache import CacheStats, PrefixCache
from rankport.runtime.scheduling.prefixes import Prefixes, prefix_key
from rankport.runtime.scheduling.work import Pass, PassSize, on_device, taking_part
from rankport.runtime.scheduling.worker import Clock, Worker
from rankport.runtime.tokens import TokenRun, TokenRuns

Asked = TextRequest | SearchRequest


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
        before, tokens = TokenRun(prompt.ids[:-1]), len(prompt.ids) + order.max_tokens
        request = TextRequest(
            tokens=tokens,
            to_compute=tokens,
            submitted_s=self._clock(),
            timeout_s=timeout_s,
            spent_s=spent_s,
            prefix=before,
            key=prefix_key(before),
            text=Text(order=order, next_token=int(prompt.ids[-1])),
        )
        self._worker.submit(request)
        return request.future

    def search(
        self,
        prompt: TokenRun,
        beams: Beams,
        timeout_s: float | None = None,
        *,
        spent_s: float = 0.0,
    ) -> "Future[Found]":
        """Queues a search behind a prompt, as `submit` does a text."""
        before = TokenRun(prompt.ids[:-1])
        tokens = len(prompt.ids) + beams.width * beams.trie.levels
        request = SearchRequest(
            tokens=tokens,
            to_compute=tokens,
            submitted_s=self._clock(),
            timeout_s=timeout_s,
            spent_s=spent_s,
            prefix=before,
            key=prefix_key(before),
            last_token=int(prompt.ids[-1]),
            beams=beams,
        )
        self._worker.submit(request)
        return request.future

    def cache_stats(self) -> CacheStats:
        """Returns a snapshot of the prefix cache's counters."""
        return self._work.cache.stats()


class _GenerationWork:
    """Prefill, decode and search passes over the backend; lives in the worker's thread."""

    def __init__(self, backend: DecodeBackend, config: EngineConfig) -> None:
        split = partial(on_device, "splitting KV", backend.split)
        self.cache = PrefixCache(config.prefix_cache_bytes, split)
        self._backend = backend
        self._max_tokens = config.max_batch_tokens
        self._prefixes = Prefixes[Asked](self.cache, backend.prefill, config)
        self._turn = 0

    def prepare(self, request: Asked) -> None:
        """Leases the prompt as far as it is cached by now, until a text has KV of its own."""
        if not _has_begun(request):
            self._prefixes.prepare(request)

    def plan(self, active: Sequence[Asked], max_bulk_tokens: int | None) -> Pass[Asked]:
        """Plans prefill, decode and search passes in turn, as far as there is work for each."""
        waiting = [request for request in active if not self._is_ready(request)]
        texts = [
            request for request in active if isinstance(request, TextRequest) and self._is_ready(request)
        ]
        searches = [
            request for request in active if isinstance(request, SearchRequest) and self._is_ready(request)
        ]
        plans: tuple[tuple[Sequence[Asked], Callable[[], Pass[Asked]]], ...] = (
            (waiting, lambda: self._prefixes.plan(waiting, max_bulk_tokens)),
            (texts, lambda: self._plan_texts(texts)),
            (searches, lambda: self._plan_searches(searches)),
        )
        while True:
            self._turn = (self._turn + 1) % len(plans)
            requests, plan = plans[self._turn]
            if requests:
                return plan()

    def retire(self, request: Asked) -> None:
        """Returns the lease, and a text's KV."""
        self._prefixes.retire(request)
        if isinstance(request, TextRequest) and request.sequence is not None:
            sequence, request.sequence = request.sequence, None
            self._backend.end(sequence)

    def close(self) -> None:
        """Drops the cache's KV before the device that holds it."""
        self.cache.clear()
        self._backend.close()

    def _is_ready(self, request: Asked) -> bool:
        return _has_begun(request) or self._prefixes.is_complete(request)

    def _plan_texts(self, texts: Sequence[TextRequest]) -> Pass[Asked]:
        ones, count = [1] * len(texts), len(texts)
        return taking_part(texts, ones, ones, self._decode, PassSize("decode", count, count, count))

    def _plan_searches(self, searches: Sequence[SearchRequest]) -> Pass[Asked]:
        takes, left = list[int](), self._max_tokens
        for place, request in enumerate(searches):
            takes.append(request.next_tokens if not place or request.next_tokens <= left else 0)
            left -= takes[-1]
        runs = sum(len(request.beams.nodes) for request, take in zip(searches, takes, strict=True) if take)
        return taking_part(
            searches, takes, takes, self._search, PassSize("search", runs, sum(takes), sum(takes))
        )

    def _decode(self, shares: Sequence[tuple[Asked, int]]) -> None:
        """Decodes the next token of each text."""
        texts = [request for request, _ in shares if isinstance(request, TextRequest)]
        sequences = [self._sequence(request) for request in texts]
        tokens = np.array([request.text.next_token for request in texts], np.int64)
        logits = on_device("decode", self._backend.decode, sequences, tokens)
        check_count("decode", len(logits), len(texts))
        for request, row in zip(texts, logits, strict=True):
            request.text.take(row)

    def _sequence(self, request: TextRequest) -> SequenceKV:
        if request.sequence is None:
            lease = self._prefixes.lease(request)
            request.sequence = on_device("beginning a text", self._backend.begin, lease.pieces())
            self._prefixes.retire(request)
        return request.sequence

    def _search(self, shares: Sequence[tuple[Asked, int]]) -> None:
        """Computes the next token of each search's beams."""
        searches = [request for request, _ in shares if isinstance(request, SearchRequest)]
        runs = [search.runs() for search in searches]
        counts = [len(part) for part in runs]
        batch = PrefixBatch(
            tuple(self._prefixes.lease(search).pieces() for search in searches),
            TokenRuns.join(runs),
            np.repeat(np.arange(len(searches)), counts),
        )
        logits = on_device("search", self._backend.logits, batch)
        check_count("search", len(logits), sum(counts))
        for search, rows in zip(searches, np.split(logits, np.cumsum(counts)[:-1]), strict=True):
            search.take(rows)


def _has_begun(request: Asked) -> bool:
    """Says whether a text has KV of its own."""
    return isinstance(request, TextRequest) and request.sequence is not None
