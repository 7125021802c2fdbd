"""Engine of rankers of sets: the state of a history from the cache, the new events computed, all candidates at once.

Owns the life of a request from arrays to logits. The queue and the thread are `worker`'s, states `states`'.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.bundle.sets import SetMask
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.queued_engine import QueuedEngine
from rankport.runtime.kinds.set_ranker.combining import Heads
from rankport.runtime.kinds.set_ranker.graphs import SetGraphs
from rankport.runtime.kinds.set_ranker.states import HistoryStates, Layer, StatePiece, joined
from rankport.runtime.scheduling.prefix_cache import CacheStats, Lease
from rankport.runtime.scheduling.work import Pass, PassSize, Request, on_device
from rankport.runtime.scheduling.worker import Clock, Worker

Values = NDArray[np.float32]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SetInput:
    """Arrays of one request."""

    events: Values  # [events, width]
    identity: NDArray[np.uint8]  # [events, bytes]
    times: Whole  # [events]
    candidates: Values  # [candidates, width]
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
    """Graphs, states and a queue. Thread-safe; owns and closes the graphs."""

    def __init__(
        self,
        graphs: SetGraphs,
        mask: SetMask,
        heads: Heads,
        config: EngineConfig = DEFAULTS,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        """Takes the graphs over."""
        self._work = _SetWork(graphs, mask, heads, config)
        super().__init__(Worker(self._work, config, name="rankport-sets", clock=clock))
        self._clock = clock

    def submit(
        self, given: SetInput, timeout_s: float | None = None, *, spent_s: float = 0.0
    ) -> "Future[SetLogits]":
        """Queues a request. Raises and answers as `TextEngine.submit`."""
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

    def cache_stats(self) -> CacheStats:
        """Takes a snapshot of the counters of states."""
        return self._work.states.stats()


@dataclass(slots=True, eq=False, kw_only=True)
class _SetRequest(Request):
    given: SetInput
    logits: Values | None = None
    again: Whole | None = None
    cached: int = 0

    @property
    def exhausted(self) -> bool:
        return self.logits is not None

    @property
    def finished(self) -> bool:
        return self.logits is not None

    def answer(self, waited_s: float) -> SetLogits:
        assert self.logits is not None
        return SetLogits(self.logits, self.again, self.cached, self.spent_s, waited_s, self.compute_s)


class _SetWork:
    """Passes over the graphs, one a request; lives in the worker's thread."""

    def __init__(self, graphs: SetGraphs, mask: SetMask, heads: Heads, config: EngineConfig) -> None:
        self._graphs, self._mask, self._heads = graphs, mask, heads
        self._chunk = config.max_prefill_tokens
        self.states = HistoryStates(config.prefix_cache_bytes)

    def prepare(self, request: _SetRequest) -> None:
        """Does nothing: a state is leased within its pass."""

    def plan(self, active: Sequence[_SetRequest], max_bulk_tokens: int | None) -> Pass[_SetRequest]:
        """Plans the pass of the request whose turn it is."""
        request = active[0]
        size = PassSize("rank", len(request.given.candidates), request.tokens, request.tokens)
        return Pass((request,), (request.tokens,), partial(self._compute, request), size)

    def retire(self, request: _SetRequest) -> None:
        """Does nothing: a request holds nothing."""

    def close(self) -> None:
        """Frees the graphs."""
        self._graphs.close()

    def _compute(self, request: _SetRequest) -> None:
        given, mask = request.given, self._mask
        with self._state(given) as (state, cached):
            request.cached = cached
            alone = None if mask.policy != "set-wise" else given.sessions
            logits = self._rank(given, given.candidates, state, alone)
            if mask.top_k is not None:
                order = np.argsort(-self._heads.combined(logits, given.weights), kind="stable")
                request.again = order[: mask.top_k]
                logits = logits.copy()
                logits[request.again] = self._rank(
                    given, given.candidates[request.again], state, given.sessions[request.again]
                )
        request.logits = logits

    @contextmanager
    def _state(self, given: SetInput) -> Iterator[tuple[list[Layer], int]]:
        """Gives the state of all events, computing those whose state is not kept, and how many were."""
        tokens = self.states.tokens(given.identity)
        lease = self.states.match(tokens)
        try:
            cached = lease.length
            while lease.length < len(tokens):
                self._extend(lease, tokens, given)
            yield joined(lease.pieces(), self._graphs.shapes), cached
        finally:
            self.states.release(lease)

    def _extend(self, lease: Lease, tokens: Whole, given: SetInput) -> None:
        start = lease.length
        end = min(len(tokens), start + self._chunk)
        past = joined(lease.pieces(), self._graphs.shapes)
        piece: StatePiece = on_device(
            "history",
            self._graphs.history,
            given.events[start:end],
            given.times[start:end],
            past,
            given.times[:start],
        )
        self.states.insert(lease, tokens[start:end], piece)

    def _rank(
        self, given: SetInput, candidates: Values, state: list[Layer], sessions: Whole | None
    ) -> Values:
        return on_device("rank", self._graphs.rank, candidates, state, given.times, given.now, sessions)
