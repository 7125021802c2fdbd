"""`UnderWayPasses`: passes that were started and not ended, and how each ends.

Those of a device end in the order of their start, and only waiting tells when; those of instances end as they do, and
tell it. What a pass's requests are answered is the worker's business.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Generic

from rankport.protos.errors import RankportError
from rankport.runtime.scheduling.counts import Begun, WorkerCounts
from rankport.runtime.scheduling.instances.pool import Instances
from rankport.runtime.scheduling.work import Pass, RequestT, UnderWay


@dataclass(frozen=True, slots=True, eq=False)
class StartedPass(Generic[RequestT]):
    """A pass that is computed."""

    requests: tuple[RequestT, ...]
    rest: UnderWay[RequestT]
    begun: Begun


class UnderWayPasses(Generic[RequestT]):
    """Passes of a worker, whose thread alone drives them; the ends that are told come from any."""

    def __init__(
        self,
        instances: Instances,
        counts: WorkerCounts,
        clock: Callable[[], float],
        condition: threading.Condition,
    ) -> None:
        """Notifies the condition when a pass of an instance ended."""
        self._instances, self._counts, self._clock = instances, counts, clock
        self._condition = condition
        self._passes: list[StartedPass[RequestT]] = []  # in the order of their start
        self._ended: deque[StartedPass[RequestT]] = deque()  # guarded by the condition

    def __len__(self) -> int:
        return len(self._passes)

    @property
    def full(self) -> bool:
        """Says whether one must end before the next may be started."""
        return len(self._passes) >= self._instances.most_under_way

    @property
    def calls_fit(self) -> bool:
        """Says whether the device may be called: it takes calls in behind its passes, a processor between them."""
        return not self._instances.side_by_side or not self._passes

    @property
    def told(self) -> bool:
        """Says whether one ended that was not taken."""
        return bool(self._ended)

    def begin(self, planned: Pass[RequestT]) -> RankportError | None:
        """Starts a pass, and ends it where it is computed by then. Returns why it could not be started."""
        begun, rest, failure = self._counts.begins(planned.size, len(planned.requests)), None, None
        try:
            rest = planned.start()
        except RankportError as error:
            failure = error
        for request in planned.requests:
            if not request.passes:
                request.computing_since_s = begun.at_s
            request.passes += 1
        if failure is not None or rest is None:
            self._account(planned.requests, begun, failed=failure is not None)
            return failure
        started = StartedPass(planned.requests, rest, begun)
        self._passes.append(started)
        if rest.future is not None:
            rest.future.add_done_callback(partial(self._tell, started))
        return None

    def take_ended(self) -> list[StartedPass[RequestT]]:
        """Takes those that told their end, to be ended."""
        with self._condition:
            ended = [started for started in self._ended if started in self._passes]
            self._ended.clear()
        return ended

    def in_order(self, keep: int) -> list[StartedPass[RequestT]]:
        """Lists those of a device that must be waited for until `keep` are left, the oldest first."""
        return [] if self._instances.side_by_side else self._passes[: max(len(self._passes) - keep, 0)]

    def side_by_side(self) -> list[StartedPass[RequestT]]:
        """Lists those of instances, which end whatever becomes of their requests."""
        return [*self._passes] if self._instances.side_by_side else []

    def end(self, started: StartedPass[RequestT]) -> RankportError | None:
        """Waits for a pass, and records its results. Returns why it failed."""
        self._passes.remove(started)
        failure = None
        try:
            started.rest.record()
        except RankportError as error:
            failure = error
        self._account(started.requests, started.begun, failed=failure is not None)
        return failure

    def _account(self, requests: Iterable[RequestT], begun: Begun, *, failed: bool) -> None:
        now_s = self._clock()
        for request in requests:
            request.compute_s += now_s - request.computing_since_s
            request.computing_since_s = now_s
            request.passes -= 1
        self._counts.ended(begun, failed=failed)

    def _tell(self, started: StartedPass[RequestT], _: "Future[object]") -> None:
        with self._condition:
            self._ended.append(started)
            self._condition.notify()
