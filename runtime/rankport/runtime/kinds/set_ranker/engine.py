"""Engine of rankers of sets: the state of a history from the cache, the new events computed, all candidates at once.

Owns the life of a request from arrays to logits. The queue and the thread are `worker`'s, states `states`'.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import RecordingCounts, Started
from rankport.runtime.backends.set_contract import FeatureRows, History, RowCounts, SetBackend
from rankport.runtime.bundle.sets import SetMask
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.queued_engine import QueuedEngine
from rankport.runtime.kinds.set_ranker.combining import Heads
from rankport.runtime.kinds.set_ranker.states import HistoryStates
from rankport.runtime.scheduling.counts import EngineCounts
from rankport.runtime.scheduling.prefix_cache import CacheStats, Lease
from rankport.runtime.scheduling.work import Pass, PassSize, Request, UnderWay, on_device
from rankport.runtime.scheduling.worker import Clock, Worker

Values = NDArray[np.float32]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SetInput:
    """Arrays of one request."""

    events: FeatureRows
    identity: NDArray[np.uint8]  # [events, bytes]
    times: Whole  # [events]
    candidates: FeatureRows
    now: int
    sessions: Whole  # [candidates]
    weights: Values  # [heads] of the sum that ranks


@dataclass(frozen=True, slots=True)
class SetLogits:
    """Logits of one request, and what they cost."""

    logits: Values  # [candidates, heads]
    again: Whole | None  # candidates of a second pass, which they see each other in
    cached: int  # events whose state was there
    gather_s: float  # before it was queued
    queue_s: float
    compute_s: float


class SetEngine(QueuedEngine):
    """A backend, states and a queue. Thread-safe; owns and closes the backend."""

    def __init__(
        self,
        backend: SetBackend,
        mask: SetMask,
        heads: Heads,
        config: EngineConfig = DEFAULTS,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        """Takes the backend over."""
        self._work = _SetWork(backend, mask, heads, config)
        super().__init__(Worker(self._work, config, name="rankport-sets", clock=clock))
        self._clock = clock

    def submit(
        self, given: SetInput, timeout_s: float | None = None, *, spent_s: float = 0.0
    ) -> "Future[SetLogits]":
        """Queues a request, once what it lacks on the device is read. Raises and answers as `TextEngine.submit`.

        Raises Unavailable too where a table was written over or cut.
        """
        self._work.read_ahead(given)
        rows = len(given.events) + len(given.candidates)
        request = _SetRequest(
            tokens=rows,
            to_compute=rows,
            submitted_s=self._clock(),
            timeout_s=timeout_s,
            spent_s=spent_s,
            given=given,
        )
        self._worker.submit(request)
        return request.future

    def counts(self) -> EngineCounts:
        """Returns a snapshot of its counters, those of recorded passes too."""
        return replace(super().counts(), recordings=self._work.recordings, rows=self._work.rows)

    def cache_stats(self) -> CacheStats:
        """Takes a snapshot of the counters of states."""
        return self._work.states.stats()


@dataclass(slots=True, eq=False, kw_only=True)
class _SetRequest(Request):
    given: SetInput
    taken: bool = False
    logits: Values | None = None
    again: Whole | None = None
    cached: int = 0

    @property
    def exhausted(self) -> bool:
        return self.taken

    @property
    def finished(self) -> bool:
        return self.logits is not None

    def answer(self, waited_s: float) -> SetLogits:
        assert self.logits is not None
        return SetLogits(self.logits, self.again, self.cached, self.spent_s, waited_s, self.compute_s)


class _SetWork:
    """Passes over the backend, one a request; lives in the worker's thread."""

    def __init__(self, backend: SetBackend, mask: SetMask, heads: Heads, config: EngineConfig) -> None:
        self._backend, self._mask, self._heads = backend, mask, heads
        self._chunk = config.max_prefill_tokens
        split = partial(on_device, "splitting states", backend.split)
        self.states = HistoryStates(config.prefix_cache_bytes, split)

    @property
    def recordings(self) -> RecordingCounts | None:
        """Counts of recorded passes, of a device that records any."""
        return self._backend.recordings

    @property
    def rows(self) -> RowCounts | None:
        """Counts of rows of ids, of graphs that gather them."""
        return self._backend.rows

    def read_ahead(self, given: SetInput) -> None:
        """Reads rows of ids that the device lacks, in the caller's thread. Of kept events, too, there is no telling."""
        self._backend.read_ahead(given.events, given.candidates)

    def prepare(self, request: _SetRequest) -> bool:
        """Does nothing: a state is leased while its pass is started."""
        return True

    def plan(self, active: Sequence[_SetRequest], max_bulk_tokens: int | None) -> Pass[_SetRequest]:
        """Plans the pass of the request whose turn it is."""
        request = active[0]
        size = PassSize("rank", len(request.given.candidates), request.tokens, request.tokens)
        return Pass((request,), (request.tokens,), partial(self._start, request), size)

    def retire(self, request: _SetRequest) -> None:
        """Does nothing: a request holds nothing."""

    def close(self) -> None:
        """Drops the states before the device that holds them."""
        self.states.clear()
        self._backend.close()

    def _start(self, request: _SetRequest) -> UnderWay[_SetRequest] | None:
        """Starts the pass; of a mask with a second one, that, once the first is there."""
        given = request.given
        again: Whole | None = None
        with self._history(given) as (history, cached):
            if self._mask.top_k is None:
                together = self._mask.policy == "set-wise"
                started = self._rank(given, given.candidates, history, given.sessions if together else None)
            else:
                started, again = self._rank_again(given, history, self._mask.top_k)
        request.cached, request.again, request.taken = cached, again, True

        def wait() -> None:
            request.logits = on_device("rank", started.results)

        if not started.done:
            return UnderWay(wait)
        wait()
        return None

    def _rank_again(self, given: SetInput, history: History, top_k: int) -> tuple[Started[np.float32], Whole]:
        """Starts the second pass, over the best of a first one. Returns them too."""
        first = on_device("rank", self._rank(given, given.candidates, history, None).results)
        best = np.argsort(-self._heads.combined(first, given.weights), kind="stable")[:top_k]
        again = np.sort(best)  # as the request has them
        second = self._rank(given, given.candidates.part(again), history, given.sessions[again])

        def results() -> Values:
            logits = first.copy()
            logits[again] = second.results()
            return logits

        return Started(results, second.done), again

    @contextmanager
    def _history(self, given: SetInput) -> Iterator[tuple[History, int]]:
        """Gives all events, the state of those computed that is not kept, and how many had theirs."""
        tokens = self.states.tokens(given.identity)
        lease = self.states.match(tokens)
        try:
            cached = lease.length
            while lease.length < len(tokens):
                self._extend(lease, tokens, given)
            yield History(lease.pieces(), given.times), cached
        finally:
            self.states.release(lease)

    def _extend(self, lease: Lease, tokens: Whole, given: SetInput) -> None:
        start = lease.length
        end = min(len(tokens), start + self._chunk)
        past = History(lease.pieces(), given.times[:start])
        events = given.events.part(slice(start, end))
        state = on_device("history", self._backend.extend, past, events, given.times[start:end])
        self.states.insert(lease, tokens[start:end], state)

    def _rank(
        self, given: SetInput, candidates: FeatureRows, history: History, sessions: Whole | None
    ) -> Started[np.float32]:
        return on_device("rank", self._backend.start, history, given.now, candidates, sessions)
