"""Scores items against prefixes: many requests, one device, prefixes computed once.

Owns the life of a scoring request from token runs to logits. Batching is `pass_plan`'s, KV is
`prefix_cache`'s, the queue and the thread are `worker`'s; texts and scores are `ranker`'s.

A request's life: queued; active, with its prefix leased as far as cached; prefilled in chunks, each stored
for others to find; scored in passes of items of similar length, shared with other requests; answered.
Deadlines and cancellations are checked before each pass.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import (
    PrefixBackend,
    PrefixBatch,
    RecordingCounts,
    SplitKV,
    Started,
)
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.queued_engine import QueuedEngine
from rankport.runtime.scheduling.counts import CacheStats, EngineCounts
from rankport.runtime.scheduling.instances.pool import Instances
from rankport.runtime.scheduling.passes.pass_pace import PassPace
from rankport.runtime.scheduling.passes.pass_plan import PassLimits, items_size, plan_items, spread
from rankport.runtime.scheduling.passes.pass_results import Spans, take_spans
from rankport.runtime.scheduling.passes.prefixes import (
    Prefixes,
    TokenPrefixRequest,
    prefill_tokens,
    prefix_key,
)
from rankport.runtime.scheduling.prefix_cache import PrefixCache
from rankport.runtime.scheduling.runs_by_length import RunsByLength
from rankport.runtime.scheduling.work import Pass, UnderWay, on_device, taking_part
from rankport.runtime.scheduling.worker import Clock, Worker
from rankport.runtime.tokens import TokenRun, TokenRuns


@dataclass(frozen=True, slots=True)
class Scored:
    """Logits of one request, in the order of its items."""

    logits: NDArray[np.float32]  # [items, labels], NaN where failed
    failed: NDArray[np.bool_]  # [items] the device gave a logit that is not finite
    prefix_tokens_cached: int
    prefix_tokens_computed: int
    queue_s: float  # from submission, outside the request's passes
    compute_s: float  # in passes the request took part in


class Engine(QueuedEngine):
    """A scoring backend, its prefix cache and its queue. Thread-safe; owns and closes the backend."""

    def __init__(
        self,
        backend: PrefixBackend,
        config: EngineConfig = DEFAULTS,
        *,
        clock: Clock = time.monotonic,
        new_cache: Callable[[int, SplitKV | None], PrefixCache] = PrefixCache,
    ) -> None:
        instances = Instances(config.instances)
        self._work = _ScoringWork(backend, config, new_cache, clock, instances)
        worker = Worker(self._work, config, name="rankport-scoring", clock=clock, instances=instances)
        super().__init__(worker)
        self._clock = clock

    def submit(
        self,
        prefix: TokenRun,
        items: TokenRuns,
        timeout_s: float | None = None,
        *,
        spent_s: float = 0.0,
    ) -> "Future[Scored]":
        """Queues a request, `spent_s` of its `timeout_s` gone. The future can be cancelled until it is answered.

        Raises `InvalidRequest` without items or for an empty one, `Overloaded`, `Unavailable`. The future
        raises `DeadlineExceeded`, `BackendError`, `Unavailable`.
        """
        runs = RunsByLength.of(items, "item")
        request = _ScoringRequest(
            tokens=prefix.ids.size + runs.tokens,
            to_compute=prefix.ids.size + runs.tokens,
            submitted_s=self._clock(),
            timeout_s=timeout_s,
            spent_s=spent_s,
            prefix=prefix,
            key=prefix_key(prefix),
            items=runs,
        )
        self._worker.submit(request)
        return request.future

    def call(self, step: Callable[[], None]) -> "Future[None]":
        """Has the thread that owns the device do something between two passes. See `Worker.call`."""
        return self._worker.call(partial(on_device, "a step between passes", step))

    def counts(self) -> EngineCounts:
        """Returns a snapshot of its counters, those of recorded passes too."""
        return replace(super().counts(), recordings=self._work.recordings)

    def cache_stats(self) -> CacheStats:
        """Returns a snapshot of the prefix cache's counters."""
        return self._work.cache.stats()


@dataclass(slots=True, eq=False, kw_only=True)
class _ScoringRequest(TokenPrefixRequest):
    items: RunsByLength

    @property
    def exhausted(self) -> bool:
        return self.items.exhausted

    @property
    def finished(self) -> bool:
        return self.items.finished

    def answer(self, waited_s: float) -> Scored:
        logits = self.items.results()
        finite = np.isfinite(logits)
        if finite.all():
            failed = np.zeros(len(logits), np.bool_)
        else:
            failed = ~finite.all(axis=1)
            logits[failed] = np.nan
        return Scored(
            logits=logits,
            failed=failed,
            prefix_tokens_cached=self.prefix_tokens_cached,
            prefix_tokens_computed=self.prefix_tokens_computed,
            queue_s=waited_s,
            compute_s=self.compute_s,
        )


Shares = Sequence[tuple[_ScoringRequest, int]]
"""How many tokens or items of each request a pass takes."""


class _ScoringWork:
    """Prefill and score passes over the backend; lives in the worker's thread."""

    def __init__(
        self,
        backend: PrefixBackend,
        config: EngineConfig,
        new_cache: Callable[[int, SplitKV | None], PrefixCache],
        clock: Clock,
        instances: Instances,
    ) -> None:
        split = None if backend.split is None else partial(on_device, "splitting KV", backend.split)
        self.cache = new_cache(config.prefix_cache_bytes, split)
        self._backend = backend
        self._instances = instances
        self._prefixes = Prefixes[_ScoringRequest](
            self.cache, prefill_tokens(backend.prefill), config, instances
        )
        self._item_limits = PassLimits(config.max_batch_tokens, config.max_padding_ratio)
        self._pace = PassPace(config.max_shared_pass_s, clock)
        self._prefilled_last = False

    @property
    def recordings(self) -> RecordingCounts | None:
        """Counts of recorded passes, of a device that records any."""
        return self._backend.recordings

    def prepare(self, request: _ScoringRequest) -> bool:
        """Leases the prefix as far as it is cached by now; False while a pass under way computes what comes next."""
        return self._prefixes.prepare(request)

    def plan(self, active: Sequence[_ScoringRequest], max_bulk_tokens: int | None) -> Pass[_ScoringRequest]:
        """Plans prefill and score passes in turn, while there is work for both.

        Prefixes wait while the requests whose turn comes before theirs fill a pass: more of them come meanwhile, and
        share one.
        """
        ready = [request for request in active if self._prefixes.is_complete(request)]
        waiting = [request for request in active if not self._prefixes.is_complete(request)]
        enough = self._pace.enough_tokens
        limits = replace(self._item_limits, max_bulk_tokens=max_bulk_tokens, enough_tokens=enough)
        due = bool(waiting) and not self._fill_a_pass(active, limits)
        self._prefilled_last = due and not (ready and self._prefilled_last)
        if self._prefilled_last:
            return self._prefixes.plan(waiting, max_bulk_tokens)
        return self._plan_items(ready, limits)

    def _fill_a_pass(self, active: Sequence[_ScoringRequest], limits: PassLimits) -> bool:
        """Says whether the items of the first requests, up to one whose prefix is not there, fill a pass."""
        tokens = 0
        for request in itertools.takewhile(self._prefixes.is_complete, active):
            if limits.max_bulk_tokens is None or not request.large:
                tokens += request.items.remaining_tokens
            if limits.nearly_full(tokens):
                return True
        return False

    def retire(self, request: _ScoringRequest) -> None:
        """Returns the lease."""
        self._prefixes.retire(request)

    def close(self) -> None:
        """Drops the cache's KV before the device that holds it."""
        self.cache.clear()
        self._backend.close()

    def _plan_items(self, requests: Sequence[_ScoringRequest], limits: PassLimits) -> Pass[_ScoringRequest]:
        work = [self._prefixes.item_work(request, request.items) for request in requests]
        takes = plan_items(work, spread(work, limits, self._instances.free))
        tokens = [one.tokens_of(take) for one, take in zip(work, takes, strict=True)]
        return taking_part(requests, takes, tokens, self._score, items_size("score", work, takes))

    def _score(self, shares: Shares) -> UnderWay[_ScoringRequest] | None:
        """Starts to score the next `share` items of each request; requests with the same prefix share its row."""
        _, by_row = self._prefixes.by_prefix(shares)
        spans = [(request, request.items.upcoming(count)) for _, request, count in by_row]
        return take_spans("score", spans, self._call, self._instances)

    def _call(self, spans: Spans[_ScoringRequest]) -> Callable[[], Started[np.float32]]:
        """Makes the call that scores items, those with the same prefix behind each other."""
        prefixes, by_row = self._prefixes.by_prefix([(request, span.count) for request, span in spans])
        batch = PrefixBatch(
            prefixes=prefixes,
            runs=TokenRuns.join([span.runs for _, span in spans]),
            run_prefix=np.repeat([row for row, _, _ in by_row], [count for _, _, count in by_row]),
        )
        start = partial(on_device, "score", self._backend.start, batch)
        if not self._instances.side_by_side:  # else the call is made in another thread than the cache's
            start = partial(self._prefixes.with_room, start)
        return partial(self._pace.timed, start, len(batch.runs.ids))
