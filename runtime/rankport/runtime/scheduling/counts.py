"""Counts of a worker: what its passes were made of, how long its requests took, and whether its thread still moves.

Plain numbers that the worker's thread writes and any thread reads; who exports them is the server's business.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields

from rankport.protos.wording import counted
from rankport.runtime.backends.contract import RecordingCounts
from rankport.runtime.backends.set_contract import RowCounts
from rankport.runtime.histogram import COUNTS, Histogram, HistogramCounts
from rankport.runtime.scheduling.work import PassSize


@dataclass(frozen=True, slots=True)
class StageCounts:
    """Sums over the passes of one stage."""

    passes: int = 0
    runs: int = 0
    tokens: int = 0
    padded_tokens: int = 0  # of the layouts, padding included

    def plus(self, size: PassSize) -> "StageCounts":
        """Adds a pass."""
        return StageCounts(
            self.passes + 1,
            self.runs + size.runs,
            self.tokens + size.tokens,
            self.padded_tokens + size.padded_tokens,
        )


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters of a prefix cache since its construction, and what is held now."""

    lookups: int
    hits: int  # lookups that found at least one token
    tokens_reused: int
    tokens_computed: int
    evictions: int  # nodes dropped for room
    nodes: int
    bytes: int
    budget_bytes: int

    @classmethod
    def total(cls, stats: "Sequence[CacheStats]") -> "CacheStats":
        """Adds up the counters of several caches."""
        nothing = (0,) * len(fields(cls))
        return cls(*(sum(values) for values in zip(nothing, *map(astuple, stats), strict=True)))


@dataclass(frozen=True, slots=True)
class Room:
    """Requests that wait for their first pass."""

    requests: int = 0
    tokens: int = 0

    def plus(self, requests: int, tokens: int) -> "Room":
        """Adds some, or takes them off."""
        return Room(self.requests + requests, self.tokens + tokens)


@dataclass(frozen=True, slots=True)
class Queue:
    """Requests that an engine has now."""

    waiting_requests: int  # for their first pass
    waiting_tokens: int
    active_requests: int  # that take part in passes
    background: Room = Room()  # of those that wait, what is in the background


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """Counters of an engine since its start, and what it does now."""

    device: str  # kind of it: "cpu", "cuda", "tensorrt"
    queue: Queue
    stages: Mapping[str, StageCounts]
    failed_passes: int
    busy_s: float  # that at least one pass was under way
    pass_requests: HistogramCounts  # requests that shared a pass
    queue_s: HistogramCounts  # of answered requests, outside their passes
    compute_s: HistogramCounts  # of answered requests, in their passes
    silent_s: (
        float  # since the thread's last step or the start of its oldest pass, 0 while it has nothing to do
    )
    doing: str  # what it does since then
    recordings: RecordingCounts | None = None  # of its device, if that records passes
    rows: RowCounts | None = None  # of id tables, if its graphs gather them
    stopped: bool = False  # by itself, for good: its device is lost, or it met a bug
    away: bool = False  # with its process, which is started again


@dataclass(frozen=True, slots=True, eq=False)
class Begun:
    """A pass that is about to be started, or was."""

    size: PassSize
    requests: int
    at_s: float

    @property
    def in_words(self) -> str:
        """Words for it."""
        return f"{self.size.in_words} of {counted(self.requests, 'request')}"


class WorkerCounts:
    """Counters of one worker's thread."""

    def __init__(self, clock: Callable[[], float], *, side_by_side: bool = False) -> None:
        """Passes run behind each other, or side by side: each from its start on."""
        self._clock, self._side_by_side = clock, side_by_side
        self._stages: dict[str, StageCounts] = {}
        self._failed = 0
        self._busy = 0.0, math.inf  # seconds of the past, and since when a pass is under way
        self._passes_s = 0.0  # of those that ended, side by side
        self._under_way: list[Begun] = []  # in the order of their start
        self._last_end_s = 0.0
        self._pass_requests, self._queue_s, self._compute_s = Histogram(COUNTS), Histogram(), Histogram()
        self._step_s: float | None = None  # time of the last step; None while the thread has nothing to do
        self._stopped = False

    def idle(self) -> None:
        """Notes that the thread waits for work."""
        self._step_s = None

    def stops(self) -> None:
        """Notes that the thread ends by itself, and with it what is under way."""
        self._stopped = True
        self._under_way.clear()
        self._busy = self._busy_until(self._clock()), math.inf

    def step(self) -> None:
        """Notes that the thread goes on."""
        self._step_s = self._clock()

    def begins(self, size: PassSize, requests: int) -> Begun:
        """Notes that a pass is about to be started."""
        self.step()
        begun = Begun(size, requests, self._clock())
        if not self._under_way:
            self._busy = self._busy[0], begun.at_s
        self._under_way.append(begun)
        return begun

    def ended(self, begun: Begun, *, failed: bool) -> None:
        """Notes that a pass has ended, or did not start."""
        self.step()
        now_s = self._last_end_s = self._clock()
        self._under_way.remove(begun)
        self._passes_s += now_s - begun.at_s
        if not self._under_way:
            self._busy = self._busy_until(now_s), math.inf
        if failed:
            self._failed += 1
            return
        stage = begun.size.stage
        self._stages[stage] = self._stages.get(stage, StageCounts()).plus(begun.size)
        self._pass_requests.add(begun.requests)

    @property
    def worked_s(self) -> float:
        """Seconds that passes took, each by itself where they are side by side. The worker's thread only."""
        return self._passes_s if self._side_by_side else self._busy_until(self._clock())

    def answered(self, queue_s: float, compute_s: float) -> None:
        """Notes how long a request took."""
        self._queue_s.add(queue_s)
        self._compute_s.add(compute_s)

    def snapshot(self, device: str, queue: Queue) -> EngineCounts:
        """Returns a copy; any thread may ask for it."""
        now_s, step_s, under_way = self._clock(), self._step_s, [*self._under_way]
        return EngineCounts(
            device=device,
            queue=queue,
            stages=dict(self._stages),
            failed_passes=self._failed,
            busy_s=self._busy_until(now_s),
            pass_requests=self._pass_requests.snapshot(),
            queue_s=self._queue_s.snapshot(),
            compute_s=self._compute_s.snapshot(),
            silent_s=max(now_s - min(self._since_s(under_way), now_s if step_s is None else step_s), 0.0),
            doing=under_way[0].in_words if under_way else "a step between passes",
            stopped=self._stopped,
        )

    def _busy_until(self, now_s: float) -> float:
        busy_s, since_s = self._busy  # at once: a pass may end meanwhile
        return busy_s + max(now_s - since_s, 0.0)

    def _since_s(self, under_way: Sequence[Begun]) -> float:
        """Gives when the device took up the oldest of some passes, infinity without any."""
        if not under_way:
            return math.inf
        # Behind each other the next one begins when that before it has ended.
        return under_way[0].at_s if self._side_by_side else max(under_way[0].at_s, self._last_end_s)
