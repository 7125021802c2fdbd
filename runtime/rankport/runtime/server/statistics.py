"""Statistics of models: how many requests, and where their time went. Kept on the event loop."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rankport.protos.types import Usage


@dataclass(slots=True)
class Total:
    """Count and sum of durations."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Adds a duration."""
        self.count += 1
        self.ns += round(seconds * 1e9)


@dataclass(slots=True)
class ModelTotals:
    """Totals of one model since the server's start; phases of requests that say them."""

    success: Total = field(default_factory=Total)
    fail: Total = field(default_factory=Total)
    read: Total = field(default_factory=Total)  # of the message, and tokenization
    queue: Total = field(default_factory=Total)
    compute: Total = field(default_factory=Total)
    write: Total = field(default_factory=Total)  # of the answer
    last_ms: int = 0  # since 1970, of the last request that was answered

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Wraps a request: adds its time to those answered, or to those that failed."""
        begun_s = time.perf_counter()
        try:
            yield
        except BaseException:
            self.fail.add(time.perf_counter() - begun_s)
            raise
        self.success.add(time.perf_counter() - begun_s)
        self.last_ms = time.time_ns() // 1_000_000

    def add_usage(self, usage: Usage) -> None:
        """Adds the phases of a request."""
        self.read.add(usage.tokenize_s)
        self.queue.add(usage.queue_s)
        self.compute.add(usage.compute_s)


class Statistics:
    """Totals by version of a model, NAME@VERSION."""

    def __init__(self) -> None:
        self._totals: dict[str, ModelTotals] = {}

    def of(self, name: str) -> ModelTotals:
        """Returns the totals of a version, which are added to."""
        return self._totals.setdefault(name, ModelTotals())
