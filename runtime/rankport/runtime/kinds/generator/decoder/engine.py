"""Writes texts, searches sequences and scores items behind prompts: many at once, prompts computed once.

Owns the passes. KV of prompts is `prefixes`', of texts the backend's; the queue and the thread are `worker`'s; what a
pass changes of a text, a search or of scored items, `texts`, `searches` and `likelihoods` know.

A text's life: queued; active, its prompt leased as far as cached; the prompt but for its last token prefilled in
chunks; then that token, and each one that is drawn, decoded in passes shared with all other texts. A search begins
alike; then its beams are runs behind the prompt's KV, in a pass for each of their tokens. Items to be scored are such
runs too, whole ones in one pass. Passes of each sort take turns, so that none waits for more than one of each other;
deadlines and cancellations are checked before each pass: nothing is computed for what nobody waits for.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from rankport.runtime.backends.contract import PrefixBatch, RecordingCounts
from rankport.runtime.backends.write_contract import DecodeBackend, SequenceKV
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.generator.decoder.beams import Beams
from rankport.runtime.kinds.generator.decoder.likelihoods import LikelihoodRequest, Likelihoods
from rankport.runtime.kinds.generator.decoder.places import log_probabilities
from rankport.runtime.kinds.generator.decoder.searches import Found, SearchRequest
from rankport.runtime.kinds.generator.texts.text import Text, TextOrder, TextRequest, Written, take_likeliest
from rankport.runtime.kinds.queued_engine import QueuedEngine
from rankport.runtime.scheduling.counts import CacheStats, EngineCounts
from rankport.runtime.scheduling.instances.pool import Instances
from rankport.runtime.scheduling.passes.pass_plan import PassLimits, items_size, plan_items
from rankport.runtime.scheduling.passes.pass_results import check_count
from rankport.runtime.scheduling.passes.prefixes import Prefixes, prefill_tokens, prefix_key
from rankport.runtime.scheduling.prefix_cache import PrefixCache
from rankport.runtime.scheduling.runs_by_length import RunsByLength
from rankport.runtime.scheduling.work import Pass, PassSize, on_device, taking_part
from rankport.runtime.scheduling.worker import Clock, Worker
from rankport.runtime.tokens import TokenRun, TokenRuns

Asked = TextRequest | SearchRequest | LikelihoodRequest


class GenerationEngine(QueuedEngine):
    """A decoding backend, its prefix cache and its queue. Thread-safe; owns and closes the backend."""

    def __init__(
        self,
        backend: DecodeBackend,
        config: EngineConfig = DEFAULTS,
        *,
        scored_tokens: int | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """Takes over a backend. A pass over items to be scored has at most `scored_tokens`; None: as any."""
        instances = Instances(config.instances)
        self._work = _GenerationWork(backend, config, scored_tokens, instances)
        name = "rankport-generation"
        super().__init__(Worker(self._work, config, name=name, clock=clock, instances=instances))
        self._clock = clock

    def submit(
        self, prompt: TokenRun, order: TextOrder, timeout_s: float | None = None, *, spent_s: float = 0.0
    ) -> "Future[Written]":
        """Queues a text behind a prompt of at least one token, `spent_s` of its `timeout_s` gone.

        The future can be cancelled until the text is complete. Raises `Overloaded`, `Unavailable`; the future raises
        `DeadlineExceeded`, `BackendError`, `Unavailable`.
        """
        tokens = len(prompt.ids) + order.max_tokens
        request = TextRequest(
            **self._common(prompt, tokens, timeout_s, spent_s),
            text=Text(order=order, next_token=int(prompt.ids[-1])),
        )
        self._worker.submit(request)
        return request.future

    def search(
        self, prompt: TokenRun, beams: Beams, timeout_s: float | None = None, *, spent_s: float = 0.0
    ) -> "Future[Found]":
        """Queues a search behind a prompt, as `submit` does a text."""
        tokens = len(prompt.ids) + beams.width * beams.trie.levels
        request = SearchRequest(
            **self._common(prompt, tokens, timeout_s, spent_s),
            last_token=int(prompt.ids[-1]),
            beams=beams,
        )
        self._worker.submit(request)
        return request.future

    def score(
        self,
        prompt: TokenRun,
        items: TokenRuns,
        ends: Sequence[int],
        timeout_s: float | None = None,
        *,
        spent_s: float = 0.0,
    ) -> "Future[Likelihoods]":
        """Queues items, each of at least one token, to be scored behind a prompt, as `submit` does a text.

        They are whole texts that one of the `ends` follows; without any their ends are open.
        """
        runs = RunsByLength.of(items, "item")
        tokens = len(prompt.ids) + runs.tokens + len(runs.lengths)
        request = LikelihoodRequest(
            **self._common(prompt, tokens, timeout_s, spent_s),
            last_token=int(prompt.ids[-1]),
            items=runs,
            ends=np.array(ends, np.int64),
        )
        self._worker.submit(request)
        return request.future

    def counts(self) -> EngineCounts:
        """Returns a snapshot of its counters, those of recorded passes too."""
        return replace(super().counts(), recordings=self._work.recordings)

    def cache_stats(self) -> CacheStats:
        """Returns a snapshot of the prefix cache's counters."""
        return self._work.cache.stats()

    def _common(
        self, prompt: TokenRun, tokens: int, timeout_s: float | None, spent_s: float
    ) -> dict[str, Any]:
        """Makes what every request has, whose last token of the prompt is not among its prefix."""
        before = TokenRun(prompt.ids[:-1])
        return {
            "tokens": tokens,
            "to_compute": tokens,
            "submitted_s": self._clock(),
            "timeout_s": timeout_s,
            "spent_s": spent_s,
            "prefix": before,
            "key": prefix_key(before),
        }


class _GenerationWork:
    """Prefill, decode, search and score passes over the backend; lives in the worker's thread.

    Of several instances prefill has all but one, which is the worker's own thread: texts share each step.
    """

    def __init__(
        self, backend: DecodeBackend, config: EngineConfig, scored_tokens: int | None, instances: Instances
    ) -> None:
        split = None if backend.split is None else partial(on_device, "splitting KV", backend.split)
        self.cache = PrefixCache(config.prefix_cache_bytes, split)
        self._backend, self._instances = backend, instances
        self._max_tokens = config.max_batch_tokens
        most = self._max_tokens if scored_tokens is None else min(scored_tokens, self._max_tokens)
        self._item_limits = PassLimits(most, config.max_padding_ratio)
        self._prefixes = Prefixes[Asked](self.cache, prefill_tokens(backend.prefill), config, instances)
        self._turn = 0

    @property
    def recordings(self) -> RecordingCounts | None:
        """Counts of the device's passes, if it records them."""
        return self._backend.recordings

    def prepare(self, request: Asked) -> bool:
        """Leases the prompt as far as it is cached by now, until a text has KV of its own.

        False while a pass under way computes what comes next, or no instance has room for a prompt.
        """
        if _has_begun(request):
            return True
        has_room = not self._instances.side_by_side or self._instances.free > 1
        return self._prefixes.prepare(request) and (has_room or self._prefixes.is_complete(request))

    def plan(self, active: Sequence[Asked], max_bulk_tokens: int | None) -> Pass[Asked]:
        """Plans prefill, decode, search and score passes in turn, as far as there is work for each."""
        waiting = [request for request in active if not self._is_ready(request)]
        ready = [request for request in active if self._is_ready(request)]
        texts = [request for request in ready if isinstance(request, TextRequest)]
        searches = [request for request in ready if isinstance(request, SearchRequest)]
        scored = [request for request in ready if isinstance(request, LikelihoodRequest)]
        plans: tuple[tuple[Sequence[Asked], Callable[[], Pass[Asked]]], ...] = (
            (waiting, lambda: self._prefixes.plan(waiting, max_bulk_tokens)),
            (texts, lambda: self._plan_texts(texts)),
            (searches, lambda: self._plan_searches(searches)),
            (scored, lambda: self._plan_items(scored, max_bulk_tokens)),
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
        takes, tokens, beams = list[int](), 0, 0
        for request in searches:
            more, wide = request.next_tokens, len(request.beams.nodes)
            fits = tokens + more <= self._max_tokens and beams + wide <= self._item_limits.max_tokens
            takes.append(more if fits or not takes else 0)
            if takes[-1]:
                tokens, beams = tokens + more, beams + wide
        runs = sum(len(request.beams.nodes) for request, take in zip(searches, takes, strict=True) if take)
        return taking_part(
            searches, takes, takes, self._search, PassSize("search", runs, sum(takes), sum(takes))
        )

    def _plan_items(self, requests: Sequence[LikelihoodRequest], max_bulk_tokens: int | None) -> Pass[Asked]:
        work = [self._prefixes.item_work(request, request.items) for request in requests]
        takes = plan_items(work, replace(self._item_limits, max_bulk_tokens=max_bulk_tokens))
        tokens = [one.tokens_of(take) for one, take in zip(work, takes, strict=True)]
        return taking_part(requests, takes, tokens, self._score, items_size("score", work, takes))

    def _decode(self, shares: Sequence[tuple[Asked, int]]) -> None:
        """Decodes the next token of each text."""
        texts = [request for request, _ in shares if isinstance(request, TextRequest)]
        if self._backend.finds_likeliest:  # rows of logits cost least of the first
            texts.sort(key=lambda request: not request.text.order.sampler.needs_all)
        sequences = [self._sequence(request) for request in texts]
        tokens = np.array([request.text.next_token for request in texts], np.int64)
        if self._backend.finds_likeliest:
            found = on_device("decode", self._backend.decode_likeliest, sequences, tokens)
            take_likeliest([request.text for request in texts], found)
            return
        logits = on_device("decode", self._backend.decode, sequences, tokens)
        check_count("decode", len(logits), len(texts))
        for request, row in zip(texts, logits, strict=True):
            request.text.take(row)

    def _sequence(self, request: TextRequest) -> SequenceKV:
        if request.sequence is None:
            lease = self._prefixes.lease(request)
            begin = partial(on_device, "beginning a text", self._backend.begin, lease.pieces())
            request.sequence = self._prefixes.with_room(begin)
            self._prefixes.retire(request)
        return request.sequence

    def _search(self, shares: Sequence[tuple[Asked, int]]) -> None:
        """Computes the next token of each search's beams."""
        asked = [
            (request, children)
            for request, _ in shares
            if isinstance(request, SearchRequest) and (children := request.children()) is not None
        ]
        if not asked:
            return
        runs = [search.runs() for search, _ in asked]
        beams = [len(part) for part in runs]
        batch = PrefixBatch(
            tuple(self._prefixes.lease(search).pieces() for search, _ in asked),
            TokenRuns.join(runs),
            np.repeat(np.arange(len(asked)), beams),
        )
        parts = [(children.parents, children.tokens) for _, children in asked]
        ask = partial(log_probabilities, "search", self._backend, batch, beams, parts)
        answers = self._prefixes.with_room(ask)
        for (search, children), part in zip(asked, answers, strict=True):
            search.take(children, part)

    def _score(self, shares: Sequence[tuple[Asked, int]]) -> None:
        """Scores the next items of each request; requests with the same prompt share its KV."""
        prefixes, by_row = self._prefixes.by_prefix(shares)
        scored = [(row, one, count) for row, one, count in by_row if isinstance(one, LikelihoodRequest)]
        runs = [one.upcoming(count) for _, one, count in scored]
        batch = PrefixBatch(
            prefixes,
            TokenRuns.join(runs),
            np.repeat([row for row, _, _ in scored], [count for _, _, count in scored]),
            every_token=True,
        )
        parts = [one.asked(count) for _, one, count in scored]
        tokens = [len(part.ids) for part in runs]
        ask = partial(log_probabilities, "score", self._backend, batch, tokens, parts)
        answers = self._prefixes.with_room(ask)
        for (_, one, count), part in zip(scored, answers, strict=True):
            one.take(count, part)


def _has_begun(request: Asked) -> bool:
    """Says whether a text has KV of its own."""
    return isinstance(request, TextRequest) and request.sequence is not None
