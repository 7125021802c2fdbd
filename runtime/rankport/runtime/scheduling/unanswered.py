"""`Unanswered`: requests that a worker accepted, until each is answered or fails, once, whatever becomes of it.

Owns their books: the queue's, whether more are accepted, and when what a request holds is freed. Which fail, and when,
is the worker's business.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Generic

from rankport.protos.errors import RankportError, Unavailable
from rankport.runtime.scheduling.counts import WorkerCounts
from rankport.runtime.scheduling.futures import log_failure, settle
from rankport.runtime.scheduling.queue.queue_limit import QueueLimit
from rankport.runtime.scheduling.work import RequestT, Work


class Unanswered(Generic[RequestT]):
    """Accepted requests. The worker's thread alone ends them."""

    def __init__(
        self,
        work: Work[RequestT],
        queue_limit: QueueLimit,
        counts: WorkerCounts,
        clock: Callable[[], float],
        condition: threading.Condition,
    ) -> None:
        """Guards what other threads see of it by the condition."""
        self._work, self._counts, self._clock, self._condition = work, counts, clock, condition
        self._requests: dict[RequestT, None] = {}  # left only with the future resolved
        self._queue_limit = queue_limit
        self._closed_because: Unavailable | None = None

    def __contains__(self, request: RequestT) -> bool:
        return request in self._requests

    @property
    def open(self) -> bool:
        """Says whether more are accepted."""
        return self._closed_because is None

    def check_open(self) -> None:
        """Raises `Unavailable` once no more are accepted."""
        if self._closed_because is not None:
            raise Unavailable(*self._closed_because.args)

    def refuse(self, because: Unavailable) -> None:
        """Accepts no more, under the condition; of several reasons the first one is told."""
        self._closed_because = self._closed_because or because

    def enter(self, request: RequestT) -> None:
        """Accepts a request, under the condition. Raises as `check_open` and `QueueLimit.enter`."""
        self.check_open()
        self._queue_limit.enter(request)
        self._requests[request] = None

    def start(self, requests: Iterable[RequestT]) -> None:
        """Takes requests off the queue's account."""
        with self._condition:
            for request in requests:
                if not request.started:
                    request.started = True
                    self._queue_limit.leave(request)

    def answer(self, requests: Sequence[RequestT]) -> None:
        """Answers finished requests."""
        for request in requests:
            waited_s = max(self._clock() - request.submitted_s - request.compute_s, 0.0)
            try:
                answer = request.answer(waited_s)
            except RankportError as error:
                self._resolve(request, request.future.set_exception, error)
            else:
                self._counts.answered(waited_s, request.compute_s)
                self._resolve(request, request.future.set_result, answer)
        self._forget(requests)

    def fail(self, request: RequestT, error: RankportError) -> None:
        """Fails a request; a cancelled future takes no error."""
        self.start([request])
        self._resolve(request, request.future.set_exception, error)
        self._forget([request])

    def retire(self, request: RequestT) -> None:
        """Has the work free what a request holds, once no pass reads it."""
        if not request.passes:
            self._work.retire(request)

    def take(self) -> tuple[RequestT, ...]:
        """Takes all, under the condition, for an end without passes."""
        requests = tuple(self._requests)
        self._requests.clear()
        log_failure(partial(self.start, requests))
        return requests

    def _resolve(self, request: RequestT, resolve: Callable[[Any], None], value: object) -> None:
        self.retire(request)
        settle(request.future, resolve, value)

    def _forget(self, resolved: Sequence[RequestT]) -> None:
        with self._condition:
            for request in resolved:
                del self._requests[request]
                self._queue_limit.end(request, answered=request.finished, busy_s=self._counts.worked_s)
