"""`Histogram`: how often values were how large, in plain numbers, for whoever exports them."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Edges for times."""
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Edges for numbers of requests."""


@dataclass(frozen=True, slots=True)
class HistogramCounts:
    """Snapshot of a histogram."""

    edges: tuple[float, ...]  # ascending; a value on an edge is below it
    # [edges + 1] of values up to each edge and above the one before, then of larger ones.
    counts: tuple[int, ...]
    total: float  # of all values

    def upward(self) -> list[int]:
        """Counts the values up to each edge, then all of them. [edges + 1]"""
        sums, seen = [], 0
        for count in self.counts:
            seen += count
            sums.append(seen)
        return sums


class Histogram:
    """Counts of values between edges. One thread adds, any may take a snapshot."""

    __slots__ = ("_counts", "_edges", "_total")

    def __init__(self, edges: Sequence[float] = SECONDS) -> None:
        self._edges = tuple(edges)
        self._counts = [0] * (len(self._edges) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._edges, value)] += 1
        self._total += value

    def snapshot(self) -> HistogramCounts:
        """Returns a copy."""
        return HistogramCounts(self._edges, tuple(self._counts), self._total)
