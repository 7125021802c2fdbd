"""One rate of a load test: every request is sent when it is due, whatever became of those before."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankport.protos.priorities import Priority
from rankport.protos.wording import counted
from rankport.sdk.loadtest.arrivals import classes, due_times
from rankport.sdk.loadtest.config import LoadConfig
from rankport.sdk.loadtest.requests import LoadRequest, scored_items
from rankport.sdk.loadtest.result import MOST_REASON, NOT_SENT, OK, Ended, LoadResult

_LEAD_S = 0.05  # from the plan to its first request
_TELL_S = 0.2


class LoadTarget(Protocol):
    """Server under load."""

    async def send(self, request: LoadRequest, priority: Priority = "interactive") -> Ended:
        """Sends a request of a class and waits for its end. Raises nothing."""

    async def close(self) -> None:
        """Ends the connections."""


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Progress of one rate."""

    rate: float
    sent: int
    ended: int
    failed: int
    left_s: float


Tell = Callable[[LoadProgress], None]


async def run_rate(
    target: LoadTarget, requests: Sequence[LoadRequest], rate: float, config: LoadConfig, tell: Tell
) -> LoadResult:
    """Sends requests, over and over in their order, at a rate for warm-up and duration, and waits for all ends."""
    total_s = config.warm_up_s + config.duration_s
    due = due_times(rate, total_s, config.arrivals, config.seed, config.clients)
    load = _Load(target, requests, due, config)
    telling = asyncio.create_task(load.tell_on(rate, total_s, tell))
    try:
        await load.run()
    finally:
        telling.cancel()
    return load.result(rate, config)


class _Load:
    """Requests of one rate on their way."""

    def __init__(
        self,
        target: LoadTarget,
        requests: Sequence[LoadRequest],
        due: NDArray[np.float64],
        config: LoadConfig,
    ) -> None:
        self._target, self._requests, self._due, self._max_open = target, requests, due, config.max_open
        self._priority = classes(len(due), config.priority, config.background_share, config.seed)
        self._late_s = np.full(len(due), np.nan)
        self._latency_s = np.full(len(due), np.nan)
        self._status = [NOT_SENT] * len(due)
        self._scored = np.zeros(len(due), np.int64)
        self._reasons: dict[str, str] = {}
        self._sent = self._ended = self._failed = 0
        self._start_s = time.perf_counter() + _LEAD_S

    async def run(self) -> None:
        """Sends all that are due, and waits for their ends."""
        open_requests: set[asyncio.Task[None]] = set()
        for number, due_s in enumerate(self._due.tolist()):
            wait_s = self._start_s + due_s - time.perf_counter()
            # Also where it is late: the ends of others must be seen.
            await asyncio.sleep(max(wait_s, 0))
            if len(open_requests) >= self._max_open:
                self._failed += 1
                continue
            task = asyncio.create_task(self._send(number))
            open_requests.add(task)
            task.add_done_callback(open_requests.discard)
        if open_requests:
            await asyncio.wait(tuple(open_requests))

    async def _send(self, number: int) -> None:
        due_s = self._start_s + float(self._due[number])
        self._sent += 1
        self._late_s[number] = max(time.perf_counter() - due_s, 0.0)
        request = self._requests[number % len(self._requests)]
        ended = await self._target.send(request, self._priority[number])
        self._latency_s[number] = time.perf_counter() - due_s
        self._status[number] = ended.status
        self._ended += 1
        if ended.status == OK:
            self._scored[number] = scored_items(request, ended.reply)
        else:
            self._failed += 1
            self._reasons.setdefault(ended.status, ended.reason[:MOST_REASON])

    async def tell_on(self, rate: float, total_s: float, tell: Tell) -> None:
        """Tells how far it is, now and then."""
        while True:
            left_s = max(self._start_s + total_s - time.perf_counter(), 0.0)
            tell(LoadProgress(rate, self._sent, self._ended, self._failed, left_s))
            await asyncio.sleep(_TELL_S)

    def result(self, rate: float, config: LoadConfig) -> LoadResult:
        """Gives what was measured, without the warm-up."""
        first = min(int(np.searchsorted(self._due, config.warm_up_s)), len(self._due) - 1)
        status = self._status[first:]
        reasons = {each: self._reasons[each] for each in dict.fromkeys(status) if each in self._reasons}
        if NOT_SENT in status:
            reasons[NOT_SENT] = f"{counted(self._max_open, 'request')} were open (--max-open)"
        came = self._came_within(config.warm_up_s, config.warm_up_s + config.duration_s)
        scored = int(self._scored[came].sum())
        return LoadResult(
            rate=rate,
            duration_s=config.duration_s,
            due_s=self._due[first:] - self._due[first],
            late_s=self._late_s[first:],
            latency_s=self._latency_s[first:],
            status=status,
            came=Counter(self._priority[number] for number in came),
            items=scored,
            unscored=sum(self._requests[number % len(self._requests)].items for number in came) - scored,
            reasons=reasons,
            priority=self._priority[first:],
        )

    def _came_within(self, begin_s: float, end_s: float) -> list[int]:
        """Lists the requests whose answers came between two times."""
        ends_s = self._due + self._latency_s  # NaN where not sent
        within = np.flatnonzero((ends_s >= begin_s) & (ends_s < end_s)).tolist()
        return [number for number in within if self._status[number] == OK]
