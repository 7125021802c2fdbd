"""`LoadResult`: what became of the requests of one rate, with times from when each was due.

A request that is sent late, because the loading machine is busy, or answered late, because those before it were, has
waited from its due time on: times from the sending would leave out what its user would have waited (coordinated
omission).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rankport.protos.priorities import PRIORITIES, Priority

OK, NOT_SENT = "OK", "NOT_SENT"
MOST_REASON = 300  # characters
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)


@dataclass(frozen=True, slots=True)
class Ended:
    """End of one request."""

    status: str  # OK, a gRPC status or "HTTP 500"
    reason: str = ""  # what the server, or what kept it away, said of another one than OK
    reply: bytes = b""  # as the server sent it, over gRPC


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Requests of one rate that were measured, in the order in which they were due."""

    rate: float  # asked for
    duration_s: float  # in which they were due
    due_s: NDArray[np.float64]  # [requests] from the first of them on
    late_s: NDArray[np.float64]  # [requests] from due to sent, NaN where not sent
    latency_s: NDArray[np.float64]  # [requests] from due to the end, NaN where not sent
    status: Sequence[str]  # [requests] OK, a gRPC status, "HTTP 500" or NOT_SENT
    # Answers that came in those seconds, by class; to requests of the warm-up too.
    came: Mapping[Priority, int]
    items: int  # of these answers, that have a score
    unscored: int = 0  # the others of them: not stored, failed, or left out by the server
    # By status: what the first that ended so was told.
    reasons: Mapping[str, str] = field(default_factory=dict)
    priority: Sequence[Priority] = ()  # [requests] their classes; none: all are interactive

    @property
    def classes(self) -> tuple[Priority, ...]:
        """Lists the classes that requests have, where they have several."""
        found = tuple(each for each in PRIORITIES if each in self.priority)
        return found if len(found) > 1 else ()

    def of_class(self, name: Priority) -> "LoadResult":
        """Gives the requests of one class alone, at their share of the rate; items are not told apart."""
        kept = np.array([each == name for each in self.priority], np.bool_)
        return LoadResult(
            rate=self.rate * float(kept.mean()),
            duration_s=self.duration_s,
            due_s=self.due_s[kept],
            late_s=self.late_s[kept],
            latency_s=self.latency_s[kept],
            status=[each for each, keep in zip(self.status, kept, strict=True) if keep],
            came={name: self.came.get(name, 0)},
            items=0,
            priority=(name,) * int(kept.sum()),
        )

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Says which were answered. [requests]"""
        return np.array([status == OK for status in self.status], np.bool_)

    @property
    def by_status(self) -> dict[str, int]:
        """Counts requests by how they ended, the most first."""
        return dict(Counter(self.status).most_common())

    @property
    def failed_share(self) -> float:
        """Share of those that were not answered."""
        return 1 - float(self.answered.mean())

    @property
    def goodput(self) -> float:
        """Answers that came a second, while requests did: of a queue that grows no more than the server does."""
        return sum(self.came.values()) / self.duration_s

    def percentile_s(self, percent: float) -> float:
        """Latency that so many percent of the answered requests kept; infinite if none was answered."""
        latencies = self.latency_s[self.answered]
        return float(np.percentile(latencies, percent, method="higher")) if len(latencies) else float("inf")

    @property
    def late_p99_s(self) -> float:
        """Lateness that 99 of 100 requests were sent within: above a millisecond or two, this machine is busy."""
        sent = self.late_s[~np.isnan(self.late_s)]
        return float(np.percentile(sent, 99)) if len(sent) else 0.0

    def as_json(self) -> dict[str, object]:
        """Makes JSON of the figures; latencies in milliseconds, null where nothing was answered."""
        return {
            "rate": self.rate,
            "duration_s": self.duration_s,
            "items_per_s": round(self.items / self.duration_s, 1),
            "unscored_items_per_s": round(self.unscored / self.duration_s, 1),
            **self._ends(),
            "by_priority": {name: self.of_class(name)._ends() for name in self.classes},
            "reasons": dict(self.reasons),
            "sent_late_p99_ms": _ms(self.late_p99_s),
        }

    def _ends(self) -> dict[str, object]:
        percentiles = {f"p{percent:g}": self.percentile_s(percent) for percent in PERCENTILES[:-1]}
        latencies = {**percentiles, "max": self.percentile_s(100)}
        return {
            "requests": len(self.status),
            "goodput": round(self.goodput, 3),
            "failed_share": round(self.failed_share, 6),
            "by_status": self.by_status,
            "latency_ms": {name: _ms(value) for name, value in latencies.items()},
        }


def _ms(seconds: float) -> float | None:
    return None if seconds == float("inf") else round(seconds * 1000, 3)
