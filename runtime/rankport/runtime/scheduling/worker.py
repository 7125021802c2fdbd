"""The thread that drives a device: a bounded queue in, one future out for every request, whatever fails.

Owns queueing, deadlines, cancellation, the isolation of failures, and shutdown. A lost device or a bug ends
the thread: whatever is unanswered fails with `Unavailable`. What a pass computes is the business of the `Work` it is
given; overload is `queue_limit`'s, whose turn it is `turns`', what is done between passes `device_calls`'.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic

from rankport.protos.errors import RankportError, Unavailable
from rankport.protos.processes.own_process import OwnProcess
from rankport.runtime.config import EngineConfig
from rankport.runtime.scheduling.counts import EngineCounts, WorkerCounts
from rankport.runtime.scheduling.device_calls import DeviceCalls
from rankport.runtime.scheduling.futures import log_failure, settle
from rankport.runtime.scheduling.loaded_here import check_loaded_here
from rankport.runtime.scheduling.meter import queued
from rankport.runtime.scheduling.queue_limit import QueueLimit
from rankport.runtime.scheduling.turns import Turns
from rankport.runtime.scheduling.waiting import Waiting
from rankport.runtime.scheduling.work import Pass, RequestT, StartedPass, Work, why_it_stopped

log = logging.getLogger(__name__)

Clock = Callable[[], float]


class Worker(Generic[RequestT]):
    """Runs `work` in a thread of its own from construction to `close`."""

    def __init__(
        self, work: Work[RequestT], config: EngineConfig, *, name: str, clock: Clock = time.monotonic
    ) -> None:
        self._work, self._config, self._clock = work, config, clock
        self._process = OwnProcess()
        self._condition = threading.Condition()  # guards the fields down to `_closed_because`
        self._arrivals: deque[RequestT] = deque()
        self._device_calls = DeviceCalls()
        self._unanswered: dict[RequestT, None] = {}  # accepted; left only with the future resolved
        self.queue_limit = QueueLimit(config)
        self._drain_until_s: float | None = None  # set by `close`
        self._closed_because: Unavailable | None = None  # no submit from then on
        self._waiting = Waiting[RequestT](config.max_active_requests)  # the thread's own, as is `_active`
        self._active: list[RequestT] = []  # as they came
        self._turns = Turns(config.bulk_tokens, config.background_share)
        self._under_way: deque[StartedPass[RequestT]] = deque()  # in the order of their start
        self._counts = WorkerCounts(clock)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, request: RequestT) -> None:
        """Queues a request; its future will be resolved, or cancelled by its owner.

        Raises `Overloaded` when the queue is full, or longer than its timeout; `Unavailable` when closed or in a fork.
        """
        check_loaded_here(self._process)
        with self._condition:
            self._check_open()
            self.queue_limit.enter(request)
            self._arrivals.append(request)
            self._unanswered[request] = None
            self._condition.notify()
        queued(request.tokens)

    def call(self, step: Callable[[], None]) -> "Future[None]":
        """Has the thread do something else with the device, between two passes.

        Raises `Unavailable` after `close` or a crash, and in a forked child. The future raises what `step` raises, or
        `Unavailable`.
        """
        check_loaded_here(self._process)
        with self._condition:
            self._check_open()
            self._condition.notify()
            return self._device_calls.add(step)

    def _check_open(self) -> None:
        if self._closed_because is not None:
            raise Unavailable(*self._closed_because.args)

    @property
    def alive(self) -> bool:
        """False after `close` or a crash, and in a forked child."""
        return self._closed_because is None and not self._process.forked

    def counts(self) -> EngineCounts:
        """Returns a snapshot of the counters; any thread may ask for it, and waits for nothing."""
        return self._counts.snapshot(self._config.device, self.queue_limit.queue(len(self._active)))

    def stop(self, grace_s: float = 0.0) -> None:
        """Refuses new requests and lets accepted ones finish for `grace_s` seconds, fails the rest.

        Waits for nothing. Called again, it can only shorten the grace; in a forked child it does nothing.
        """
        if self._process.forked:  # the condition may have been held by a thread that is not here
            return
        with self._condition:
            until_s = self._clock() + grace_s
            before_s = self._drain_until_s
            self._drain_until_s = until_s if before_s is None else min(until_s, before_s)
            closed = Unavailable("the engine is closed; load the bundle again")
            self._closed_because = self._closed_because or closed
            self._condition.notify()

    def close(self, grace_s: float = 0.0) -> None:
        """Stops, and waits until that is done."""
        self.stop(grace_s)
        by_callback = threading.current_thread() is self._thread
        if not self._process.forked and not by_callback:
            self._thread.join()

    def _run(self) -> None:
        reason = Unavailable("the engine was closed before the request was answered")
        try:
            while self._take_arrivals():
                self._counts.step()
                self._device_calls.run()
                self._drop_dead(self._waiting)
                self._drop_dead(self._active)
                self._waiting.admit(self._active)
                self._prepare(self._active)
                if self._active:
                    self._run_pass()
                # While the device works on the last pass, the next one is planned and started.
                self._wait(keep=1 if self._more_to_start() else 0)
        except BaseException as error:
            reason = Unavailable(f"{why_it_stopped(error)}; load the model again")
            log.exception("%s", reason)
        finally:
            self._counts.idle()
            self._shut(reason)

    def _take_arrivals(self) -> bool:
        """Waits until there is something to do; False when the time to stop has come."""
        with self._condition:
            busy = bool(self._waiting or self._active)
            self._counts.idle()
            self._condition.wait_for(
                lambda: busy or self._arrivals or self._device_calls or self._drain_until_s is not None
            )
            while self._arrivals:
                self._waiting.add(self._arrivals.popleft())
            if self._drain_until_s is None:
                return True
            return bool(self._waiting or self._active) and self._clock() < self._drain_until_s

    def _more_to_start(self) -> bool:
        with self._condition:
            return bool(self._active or self._waiting or self._arrivals)

    def _drop_dead(self, requests: "Waiting[RequestT] | list[RequestT]") -> None:
        now_s = self._clock()
        for request in [each for each in requests if each.future.cancelled() or each.expired(now_s)]:
            requests.remove(request)
            self._fail(request, request.deadline_error())  # a cancelled future takes no error

    def _prepare(self, requests: Iterable[RequestT]) -> None:
        for request in tuple(requests):
            try:
                self._work.prepare(request)
                self._turns.size(request)
            except RankportError as error:
                self._fail(request, error)

    def _run_pass(self) -> None:
        planned = self._work.plan(self._turns.order(self._active), self._turns.bulk_limit(self._active))
        self._start(planned.requests)
        error = self._attempt(planned)
        if error is None:
            return
        if len(planned.requests) == 1:
            self._fail(planned.requests[0], error)
        else:
            log.warning(
                "a pass of %d requests failed and is repeated for each: %s", len(planned.requests), error
            )
            for request in planned.requests:
                self._run_alone(request)

    def _run_alone(self, request: RequestT) -> None:
        """Runs one pass of a request whose joint pass failed: only the guilty one fails again."""
        self._drop_dead(self._active)
        if request in self._active:
            self._prepare([request])
        if request not in self._active:
            return
        planned = self._work.plan([request], None)
        error = self._attempt(planned)
        self._wait(keep=1)
        if error is not None:
            self._fail(request, error)

    def _attempt(self, planned: Pass[RequestT]) -> RankportError | None:
        """Starts a pass, and ends it where the device did so at once."""
        started_s, failure, wait = self._clock(), None, None
        self._counts.begins(planned.size, len(planned.requests))
        try:
            wait = planned.start()
        except RankportError as error:
            failure = error
        if failure is not None or wait is None:
            self._account(planned.requests, started_s)
            self._counts.ended(planned.size, len(planned.requests), failed=failure is not None)
        if failure is None:
            self._turns.charge(self._active, zip(planned.requests, planned.tokens, strict=True))
            self._let_go(planned.requests)
            if wait is not None:
                self._under_way.append(StartedPass(planned.requests, planned.size, wait, started_s))
        return failure

    def _wait(self, *, keep: int) -> None:
        """Waits for the results of the oldest passes until `keep` are left."""
        while len(self._under_way) > keep:
            started = self._under_way.popleft()
            failure = None
            try:
                started.wait()
            except RankportError as error:
                failure = error
            self._account(started.requests, started.started_s)
            self._counts.ended(started.size, len(started.requests), failed=failure is not None)
            # Others may have failed with an earlier pass.
            waiting = [request for request in started.requests if request in self._unanswered]
            if failure is None:
                self._answer([request for request in waiting if request.finished])
                continue
            for request in waiting:
                self._fail(request, failure)

    def _account(self, requests: Iterable[RequestT], started_s: float) -> None:
        elapsed_s = self._clock() - started_s
        for request in requests:
            request.compute_s += elapsed_s

    def _start(self, requests: Iterable[RequestT]) -> None:
        """Takes requests off the queue's account."""
        with self._condition:
            for request in requests:
                if not request.started:
                    request.started = True
                    self.queue_limit.leave(request)

    def _let_go(self, served: Iterable[RequestT]) -> None:
        """Lets go of the served requests with nothing left to start, and answers the finished ones."""
        done = [request for request in served if request.exhausted]
        for request in done:
            self._active.remove(request)
        self._answer([request for request in done if request.finished])

    def _answer(self, requests: Sequence[RequestT]) -> None:
        for request in requests:
            # Passes of one request may overlap: together they can take longer than it was there.
            waited_s = max(self._clock() - request.submitted_s - request.compute_s, 0.0)
            try:
                answer = request.answer(waited_s)
            except RankportError as error:
                self._resolve(request, request.future.set_exception, error)
            else:
                self._counts.answered(waited_s, request.compute_s)
                self._resolve(request, request.future.set_result, answer)
        self._forget(requests)

    def _fail(self, request: RequestT, error: RankportError) -> None:
        if request in self._active:
            self._active.remove(request)
        self._start([request])
        self._resolve(request, request.future.set_exception, error)
        self._forget([request])

    def _resolve(self, request: RequestT, resolve: Callable[[Any], None], value: object) -> None:
        self._work.retire(request)
        settle(request.future, resolve, value)

    def _forget(self, resolved: Sequence[RequestT]) -> None:
        with self._condition:
            for request in resolved:
                del self._unanswered[request]
                self.queue_limit.end(request, answered=request.finished, busy_s=self._counts.busy_s)

    def _shut(self, reason: Unavailable) -> None:
        """Fails what is outstanding, then frees the device. Must resolve every future, even after a bug."""
        with self._condition:
            self._closed_because = self._closed_because or reason
            outstanding = tuple(self._unanswered)
            futures = [request.future for request in outstanding] + self._device_calls.take()
            self._unanswered.clear()
        for future in futures:
            error = Unavailable(*reason.args)
            log_failure(partial(settle, future, future.set_exception, error))
        for request in outstanding:
            log_failure(partial(self._work.retire, request))
        log_failure(self._work.close)
