"""Engine of rankers of sets: the state of a history from the cache, the new events computed, all candidates at once.

Owns the life of a request from arrays to logits. The queue and the thread are `worker`'s, what is computed of histories
`prefixes`', the states that are kept `states`'.

A request's life: queued; active, the state of its history leased as far as it is kept; the other events computed in
chunks, each kept for others to find; all candidates ranked in one pass of its own, or, where they do not see each other
and instances have nothing to do, in a part for each; answered.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixPieces, RecordingCounts, Started
from rankport.runtime.backends.set_contract import FeatureRows, History, RowCounts, SetBackend
from rankport.runtime.bundle.sections.sets import SetMask
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.queued_engine import QueuedEngine
from rankport.runtime.kinds.set_ranker.combining import Heads
from rankport.runtime.kinds.set_ranker.states import HistoryStates
from rankport.runtime.scheduling.counts import CacheStats, EngineCounts
from rankport.runtime.scheduling.instances.pool import Instances
from rankport.runtime.scheduling.passes.pass_plan import part_tokens
from rankport.runtime.scheduling.passes.pass_results import start_call
from rankport.runtime.scheduling.passes.prefixes import Part, Prefixes, PrefixRequest
from rankport.runtime.scheduling.work import Pass, PassSize, UnderWay, on_device
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
        instances = Instances(config.instances)
        self._work = _SetWork(backend, mask, heads, config, instances)
        super().__init__(Worker(self._work, config, name="rankport-sets", clock=clock, instances=instances))
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
            key=np.empty(0, np.int64),
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
class _SetRequest(PrefixRequest):
    given: SetInput
    named: bool = False  # its `key` is
    taken: int = 0  # candidates whose pass was started
    ranked: int = 0
    logits: Values | None = None  # [candidates, heads], from the first that are there on
    again: Whole | None = None

    @property
    def exhausted(self) -> bool:
        return self.taken == len(self.given.candidates)

    @property
    def finished(self) -> bool:
        return self.ranked == len(self.given.candidates)

    def record(self, part: slice, logits: Values) -> None:
        """Notes the logits of a part of the candidates."""
        if self.logits is None:
            self.logits = np.empty((len(self.given.candidates), logits.shape[1]), np.float32)
        self.logits[part] = logits
        self.ranked += len(logits)

    def answer(self, waited_s: float) -> SetLogits:
        assert self.logits is not None
        cached = self.prefix_tokens_cached
        return SetLogits(self.logits, self.again, cached, self.spent_s, waited_s, self.compute_s)


class _SetWork:
    """Passes over the backend, each for one request; lives in the worker's thread."""

    def __init__(
        self,
        backend: SetBackend,
        mask: SetMask,
        heads: Heads,
        config: EngineConfig,
        instances: Instances,
    ) -> None:
        self._backend, self._mask, self._heads, self._instances = backend, mask, heads, instances
        split = partial(on_device, "splitting states", backend.split)
        self.states = HistoryStates(config.prefix_cache_bytes, split)
        self._histories = Prefixes[_SetRequest](self.states, self._extend, config, instances)

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
        """Leases the state of its history as far as it is kept; False while a pass computes what comes next."""
        if not request.named:
            request.key, request.named = self.states.tokens(request.given.identity), True
        return self._histories.prepare(request)

    def plan(self, active: Sequence[_SetRequest], max_bulk_tokens: int | None) -> Pass[_SetRequest]:
        """Plans the next pass of the request whose turn it is."""
        request = active[0]
        if not self._histories.is_complete(request):
            return self._histories.plan([request], max_bulk_tokens)
        count = len(request.given.candidates) - request.taken
        if self._mask.policy == "independent" and len(active) == 1:
            count = min(count, part_tokens(count, self._instances.free))
        start = partial(self._rank, request, count)
        return Pass((request,), (count,), start, PassSize("rank", count, count, count))

    def retire(self, request: _SetRequest) -> None:
        """Returns the lease."""
        self._histories.retire(request)

    def close(self) -> None:
        """Drops the states before the device that holds them."""
        self.states.clear()
        self._backend.close()

    def _extend(self, parts: Sequence[Part[_SetRequest]]) -> Callable[[], PrefixPieces]:
        """Makes the call that computes the state of the next events of one request."""
        (part,) = parts
        given, end = part.request.given, part.end
        past = History(part.past, given.times[: part.start])
        events, times = given.events.part(slice(part.start, end)), given.times[part.start : end]
        return lambda: (on_device("history", self._backend.extend, past, events, times),)

    def _rank(self, request: _SetRequest, count: int) -> UnderWay[_SetRequest] | None:
        """Starts the pass over the next candidates; of a mask with a second one, both."""
        history = History(self._histories.lease(request).pieces(), request.given.times)
        part = slice(request.taken, request.taken + count)
        call, record = partial(self._ranked, request, history, part), partial(request.record, part)
        if not self._instances.side_by_side:  # else the call is made in another thread than the states'
            call = partial(self._histories.with_room, call)
        rest: UnderWay[_SetRequest] | None = start_call("rank", call, record, self._instances)
        request.taken = part.stop
        return rest

    def _ranked(self, request: _SetRequest, history: History, part: slice) -> Started[np.float32]:
        given = request.given
        if self._mask.top_k is not None:
            return self._ranked_again(request, history, self._mask.top_k)
        together = self._mask.policy == "set-wise"
        return self._started(
            given, given.candidates.part(part), history, given.sessions[part] if together else None
        )

    def _ranked_again(self, request: _SetRequest, history: History, top_k: int) -> Started[np.float32]:
        """Starts the second pass, over the best of a first one, which it waits for."""
        given = request.given
        first = on_device("rank", self._started(given, given.candidates, history, None).results)
        best = np.argsort(-self._heads.combined(first, given.weights), kind="stable")[:top_k]
        again = request.again = np.sort(best)  # as the request has them
        second = self._started(given, given.candidates.part(again), history, given.sessions[again])

        def results() -> Values:
            logits = first.copy()
            logits[again] = second.results()
            return logits

        return Started(results, second.done)

    def _started(
        self, given: SetInput, candidates: FeatureRows, history: History, sessions: Whole | None
    ) -> Started[np.float32]:
        return on_device("rank", self._backend.start, history, given.now, candidates, sessions)
