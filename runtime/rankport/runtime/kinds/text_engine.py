"""Engine of the kinds that make a row of each text, token or marker: many requests, one device, batches of like length.

Owns the life of a request from token ids to rows. What a row is, the kind knows; the queue and the thread are
`worker`'s, batching is `pass_plan`'s.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos.sparse import SparseRows
from rankport.runtime.backends.contract import MarkedBackend, Started, TextBackend, TokenBackend
from rankport.runtime.bundle.manifest import Role
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.queued_engine import QueuedEngine
from rankport.runtime.scheduling.instances.pool import Instances
from rankport.runtime.scheduling.passes.pass_pace import PassPace
from rankport.runtime.scheduling.passes.pass_plan import ItemWork, PassLimits, items_size, plan_items, spread
from rankport.runtime.scheduling.passes.pass_results import Spans, take_spans
from rankport.runtime.scheduling.runs_by_length import RowOf, RunsByLength
from rankport.runtime.scheduling.work import Pass, Request, UnderWay, on_device, taking_part
from rankport.runtime.scheduling.worker import Clock, Worker
from rankport.runtime.tokens import TokenRuns


@dataclass(frozen=True, slots=True)
class TextRows:
    """Rows of one request, in the order of its texts."""

    rows: NDArray[np.floating]  # [texts, tokens or markers, ...], in the graph's dtype, finite or not
    queue_s: float  # from submission, outside the request's passes
    compute_s: float  # in passes the request took part in


@dataclass(frozen=True, slots=True)
class WeightRows:
    """Rows of one request that are weights of a vocabulary, without their zeros, in the order of its texts."""

    rows: SparseRows  # finite or not
    queue_s: float  # from submission, outside the request's passes
    compute_s: float  # in passes the request took part in


_Backend = TextBackend | TokenBackend | MarkedBackend


class TextEngine(QueuedEngine):
    """A text backend and its queue. Thread-safe; owns and closes the backend."""

    def __init__(
        self,
        backend: _Backend,
        config: EngineConfig = DEFAULTS,
        *,
        role: Role = "encode",
        row_of: RowOf = "run",
        clock: Clock = time.monotonic,
    ) -> None:
        """Takes the backend over; `row_of` says what it answers with a row for."""
        instances = Instances(config.instances)
        work = _TextWork(backend, config, role, clock, instances)
        super().__init__(Worker(work, config, name="rankport-texts", clock=clock, instances=instances))
        self._clock, self._row_of = clock, row_of

    def submit(
        self,
        texts: TokenRuns,
        timeout_s: float | None = None,
        *,
        spent_s: float = 0.0,
        markers: NDArray[np.int64] | None = None,
    ) -> "Future[TextRows]":
        """Queues texts as token ids, `spent_s` of `timeout_s` gone. The future can be cancelled until answered.

        `markers` [texts] are those of each, where a row is of one.
        Raises `InvalidRequest` without texts or for an empty one, `Overloaded`, `Unavailable`. The future
        raises `DeadlineExceeded`, `BackendError`, `Unavailable`.
        """
        runs = RunsByLength.of(texts, "text", self._row_of, markers)
        return self._queued(_TextRequest, runs, timeout_s, spent_s)

    def submit_weights(
        self, texts: TokenRuns, timeout_s: float | None = None, *, spent_s: float = 0.0
    ) -> "Future[WeightRows]":
        """Queues texts whose rows [1, vocabulary] are mostly zeros, which no pass leaves behind. Raises as `submit`."""
        runs = RunsByLength.of(texts, "text")
        runs.keep = _weights_of
        return self._queued(_WeightRequest, runs, timeout_s, spent_s)

    def _queued(
        self,
        kind: "type[_RunsRequest]",
        runs: RunsByLength,
        timeout_s: float | None,
        spent_s: float,
    ) -> "Future[Any]":
        request = kind(
            tokens=runs.tokens,
            to_compute=runs.tokens,
            submitted_s=self._clock(),
            timeout_s=timeout_s,
            spent_s=spent_s,
            texts=runs,
        )
        self._worker.submit(request)
        return request.future


@dataclass(slots=True, eq=False, kw_only=True)
class _RunsRequest(Request):
    texts: RunsByLength

    @property
    def exhausted(self) -> bool:
        return self.texts.exhausted

    @property
    def finished(self) -> bool:
        return self.texts.finished


class _TextRequest(_RunsRequest):
    def answer(self, waited_s: float) -> TextRows:
        return TextRows(self.texts.results(), waited_s, self.compute_s)


class _WeightRequest(_RunsRequest):
    def answer(self, waited_s: float) -> WeightRows:
        parts, order = self.texts.kept(), self.texts.order
        rows = SparseRows.joined(parts, parts[0].width)
        return WeightRows(rows if order is None else rows.take(np.argsort(order)), waited_s, self.compute_s)


def _weights_of(rows: NDArray[np.floating]) -> SparseRows:
    return SparseRows.of_dense(rows[:, 0])


class _TextWork:
    """Passes over the backend; lives in the worker's thread."""

    def __init__(
        self, backend: _Backend, config: EngineConfig, role: Role, clock: Clock, instances: Instances
    ) -> None:
        self._backend, self._instances = backend, instances
        self._pace = PassPace(config.max_shared_pass_s, clock)
        self._role = role  # in messages of failed passes
        self._limits = PassLimits(config.text_batch_tokens, config.max_padding_ratio)

    def prepare(self, request: _RunsRequest) -> bool:
        """Does nothing: texts need nothing computed before them."""
        return True

    def plan(self, active: Sequence[_RunsRequest], max_bulk_tokens: int | None) -> Pass[_RunsRequest]:
        """Plans one pass over all requests: their texts are alike, all continue the empty prefix."""
        work = [
            ItemWork(request.texts.remaining, past=0, branch=None, large=request.large) for request in active
        ]
        enough = self._pace.enough_tokens
        limits = replace(self._limits, max_bulk_tokens=max_bulk_tokens, enough_tokens=enough)
        takes = plan_items(work, spread(work, limits, self._instances.free))
        tokens = [one.tokens_of(take) for one, take in zip(work, takes, strict=True)]
        return taking_part(active, takes, tokens, self._compute, items_size(self._role, work, takes))

    def retire(self, request: _RunsRequest) -> None:
        """Does nothing: a request holds nothing."""

    def close(self) -> None:
        """Frees the device."""
        self._backend.close()

    def _compute(self, shares: Sequence[tuple[_RunsRequest, int]]) -> UnderWay[_RunsRequest] | None:
        spans = [(request, request.texts.upcoming(count)) for request, count in shares]
        return take_spans(self._role, spans, self._call, self._instances)

    def _call(self, spans: Spans[_RunsRequest]) -> Callable[[], Started[np.floating]]:
        texts = TokenRuns.join([span.runs for _, span in spans])
        start = partial(on_device, self._role, self._backend.start, texts)
        return partial(self._pace.timed, start, len(texts.ids))
