"""The thread that drives a device: a bounded queue in, one future out for every request, whatever fails.

Owns queueing, deadlines, cancellation, the isolation of failures, and shutdown. A lost device or a bug ends
the thread: whatever is unanswered fails with `Unavailable`. What a pass computes is the business of the `Work` it is
given; overload is `queue_limit`'s, whose turn it is `turns`', answers are `unanswered`'s, what is under way or done
between passes `instances`'.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Generic

from rankport.protos.errors import RankportError, Unavailable
from rankport.protos.processes.own_process import OwnProcess
from rankport.runtime.config import EngineConfig
from rankport.runtime.scheduling.counts import EngineCounts, WorkerCounts
from rankport.runtime.scheduling.futures import log_failure, settle
from rankport.runtime.scheduling.instances.device_calls import DeviceCalls
from rankport.runtime.scheduling.instances.pool import Instances
from rankport.runtime.scheduling.instances.under_way import StartedPass, UnderWayPasses
from rankport.runtime.scheduling.loaded_here import check_loaded_here
from rankport.runtime.scheduling.meter import queued
from rankport.runtime.scheduling.queue.queue_limit import QueueLimit, Watcher
from rankport.runtime.scheduling.queue.turns import Turns
from rankport.runtime.scheduling.queue.waiting import Waiting
from rankport.runtime.scheduling.unanswered import Unanswered
from rankport.runtime.scheduling.work import Pass, RequestT, Work, why_it_stopped

log = logging.getLogger(__name__)

Clock = Callable[[], float]


class Worker(Generic[RequestT]):
    """Runs `work` in a thread of its own from construction to `close`."""

    def __init__(
        self,
        work: Work[RequestT],
        config: EngineConfig,
        *,
        name: str,
        clock: Clock = time.monotonic,
        instances: Instances | None = None,
    ) -> None:
        """Closes the instances that `work` runs its passes in, None: it has none."""
        self._work, self._config, self._clock = work, config, clock
        self._instances = instances or Instances()
        self._process = OwnProcess()
        self._condition = threading.Condition()  # guards the fields down to `_drain_until_s`
        self._arrivals: deque[RequestT] = deque()
        self._device_calls = DeviceCalls()
        self.queue_limit = QueueLimit(config)
        self._drain_until_s: float | None = None  # set by `close`
        self._waiting = Waiting[RequestT](config.max_active_requests)  # the thread's own, as is `_active`
        self._active: list[RequestT] = []  # as they came
        self._turns = Turns(config.bulk_tokens, config.background_share)
        self._counts = WorkerCounts(clock, side_by_side=self._instances.side_by_side)
        self._unanswered = Unanswered[RequestT](work, self.queue_limit, self._counts, clock, self._condition)
        self._under_way = UnderWayPasses[RequestT](self._instances, self._counts, clock, self._condition)
        self._again: deque[Pass[RequestT]] = deque()  # of single requests, whose joint pass failed on its way
        self._may_start = False  # a further pass, as far as is known
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, request: RequestT) -> None:
        """Queues a request; its future will be resolved, or cancelled by its owner.

        Raises `Overloaded` when the queue is full, or longer than its timeout; `Unavailable` when closed or in a fork.
        """
        check_loaded_here(self._process)
        with self._condition:
            self._unanswered.enter(request)
            self._arrivals.append(request)
            self._condition.notify()
        queued(request.tokens)

    def call(self, step: Callable[[], None]) -> "Future[None]":
        """Has the thread do something else with the device, between two passes.

        Raises `Unavailable` after `close` or a crash, and in a forked child; the future as `step`, or `Unavailable`.
        """
        check_loaded_here(self._process)
        with self._condition:
            self._unanswered.check_open()
            self._condition.notify()
            return self._device_calls.add(step)

    @property
    def alive(self) -> bool:
        """False after `close` or a crash, and in a forked child."""
        return self._unanswered.open and not self._process.forked

    def counts(self) -> EngineCounts:
        """Returns a snapshot of the counters; any thread may ask for it, and waits for nothing."""
        return self._counts.snapshot(self._config.device, self.queue_limit.queue(len(self._active)))

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Has the numbers of its queue told, those of now before any later ones; see `QueueLimit.watch`."""
        with self._condition:
            return self.queue_limit.watch(watcher)

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
            self._unanswered.refuse(Unavailable("the engine is closed; load the bundle again"))
            self._condition.notify()

    def close(self, grace_s: float = 0.0) -> None:
        """Stops, and waits until that is done."""
        self.stop(grace_s)
        if not self._process.forked and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        reason = Unavailable("the engine was closed before the request was answered")
        try:
            while self._take_arrivals():
                self._counts.step()
                self._end(self._under_way.take_ended())
                if self._under_way.calls_fit:
                    self._device_calls.run()
                self._drop_dead(self._waiting)
                self._drop_dead(self._active)
                self._waiting.admit(self._active)
                self._may_start = self._start_next(self._prepare(self._active))
                # While the device works on the last pass, the next one is planned and started.
                self._end(self._under_way.in_order(keep=1 if self._more_to_start() else 0))
            self._end(self._under_way.side_by_side())
        except BaseException as error:
            reason = Unavailable(f"{why_it_stopped(error)}; load the model again")
            log.exception("%s", reason)
            self._counts.stops()
        finally:
            self._counts.idle()
            self._shut(reason)

    def _take_arrivals(self) -> bool:
        """Waits until there is something to do; False when the time to stop has come."""
        with self._condition:
            if not self._under_way:
                self._counts.idle()
            while not self._something_to_do():
                left_s = None if self._drain_until_s is None else self._drain_until_s - self._clock()
                if left_s is not None and left_s <= 0:
                    break
                self._condition.wait(None if left_s is None else min(left_s, threading.TIMEOUT_MAX))
            while self._arrivals:
                self._waiting.add(self._arrivals.popleft())
            if self._drain_until_s is None:
                return True
            left = self._waiting or self._active or self._again or self._under_way
            return bool(left) and self._clock() < self._drain_until_s

    def _something_to_do(self) -> bool:
        known = self._may_start and (self._waiting or self._active or self._again)
        ended = self._under_way.told or (self._drain_until_s is not None and not self._under_way)
        calls = self._device_calls and self._under_way.calls_fit
        arrivals = self._arrivals and not self._under_way.full
        untold = self._under_way.in_order(keep=0)  # nobody tells when these end
        return bool(known or ended or calls or arrivals or untold)

    def _more_to_start(self) -> bool:
        with self._condition:
            return bool(self._active or self._waiting or self._arrivals)

    def _start_next(self, ready: list[RequestT]) -> bool:
        """Starts the next pass, of those requests; False where none can be until something happens."""
        if self._under_way.full or (self._device_calls and not self._under_way.calls_fit):
            return False
        if self._again:
            self._run_again(self._again.popleft())
        elif ready:
            self._run_pass(ready)
        else:
            return not self._active  # others wait that there is room for
        return True

    def _drop_dead(self, requests: "Waiting[RequestT] | list[RequestT]") -> None:
        now_s = self._clock()
        for request in [each for each in requests if each.future.cancelled() or each.expired(now_s)]:
            requests.remove(request)
            self._fail(request, request.deadline_error())  # a cancelled future takes no error

    def _prepare(self, requests: Iterable[RequestT]) -> list[RequestT]:
        """Prepares requests, and lists those of which a pass may be started now."""
        ready = []
        for request in tuple(requests):
            try:
                if self._work.prepare(request):
                    ready.append(request)
                self._turns.size(request)
            except RankportError as error:
                self._fail(request, error)
        return ready

    def _run_pass(self, ready: list[RequestT]) -> None:
        planned = self._work.plan(self._turns.order(ready), self._turns.bulk_limit(self._active))
        self._unanswered.start(planned.requests)
        error = self._attempt(planned)
        if error is None:
            return
        if len(planned.requests) == 1:
            self._fail(planned.requests[0], error)
        else:
            _tell_failed(planned, error)
            for request in planned.requests:
                self._run_alone(request)

    def _run_alone(self, request: RequestT) -> None:
        """Runs one pass of a request whose joint pass did not start: only the guilty one fails again."""
        self._drop_dead(self._active)
        if request not in self._active or not self._prepare([request]):
            return
        planned = self._work.plan([request], None)
        error = self._attempt(planned)
        self._end(self._under_way.in_order(keep=1))
        if error is not None:
            self._fail(request, error)

    def _run_again(self, planned: Pass[RequestT]) -> None:
        """Runs the pass of one request whose joint pass failed on its way, if it is still wanted."""
        (request,) = planned.requests
        if request not in self._unanswered:
            return
        if request.future.cancelled() or request.expired(self._clock()):
            error: RankportError | None = request.deadline_error()
        else:
            error = self._under_way.begin(planned)
        if error is not None:
            self._fail(request, error)

    def _attempt(self, planned: Pass[RequestT]) -> RankportError | None:
        """Starts a pass, and ends it where the device did so at once."""
        failure = self._under_way.begin(planned)
        if failure is None:
            self._turns.charge(self._active, zip(planned.requests, planned.tokens, strict=True))
            self._let_go(planned.requests)
        return failure

    def _end(self, passes: Iterable[StartedPass[RequestT]]) -> None:
        """Ends passes, and answers whom they complete."""
        for started in passes:
            failure = self._under_way.end(started)
            # Others may have failed with an earlier pass, or were dropped.
            waiting = [request for request in started.requests if request in self._unanswered]
            for request in set(started.requests).difference(waiting):
                self._unanswered.retire(request)
            if failure is None:
                self._unanswered.answer([request for request in waiting if request.finished])
            elif len(started.requests) > 1 and started.rest.again is not None:
                _tell_failed(started, failure)
                self._again.extend(map(started.rest.again, waiting))
            else:
                for request in waiting:
                    self._fail(request, failure)

    def _let_go(self, served: Iterable[RequestT]) -> None:
        """Lets go of the served requests with nothing left to start, and answers the finished ones."""
        done = [request for request in served if request.exhausted]
        for request in done:
            self._active.remove(request)
        self._unanswered.answer([request for request in done if request.finished])

    def _fail(self, request: RequestT, error: RankportError) -> None:
        if request in self._active:
            self._active.remove(request)
        self._unanswered.fail(request, error)

    def _shut(self, reason: Unavailable) -> None:
        """Fails what is outstanding, then frees the device. Must resolve every future, even after a bug."""
        with self._condition:
            self._unanswered.refuse(reason)
            outstanding = self._unanswered.take()
            futures = [request.future for request in outstanding] + self._device_calls.take()
            self._active.clear()
        for future in futures:
            error = Unavailable(*reason.args)
            log_failure(partial(settle, future, future.set_exception, error))
        log_failure(self._instances.close)
        for request in outstanding:
            log_failure(partial(self._work.retire, request))
        log_failure(self._work.close)


def _tell_failed(joint: Pass[RequestT] | StartedPass[RequestT], error: RankportError) -> None:
    log.warning("a pass of %d requests failed and is repeated for each: %s", len(joint.requests), error)
