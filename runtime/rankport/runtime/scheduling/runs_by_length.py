"""`RunsByLength`: the runs of one request by length, taken pass by pass, and their results in the request's own order.

Neighbours in length share a pass with little padding.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import offsets_of
from rankport.protos.errors import InvalidRequest
from rankport.runtime.tokens import TokenRuns, places_within

RowOf = Literal["run", "token", "marker"]
"""Subject of a row of results; how many markers a run has, whoever makes the runs knows."""


@dataclass(frozen=True, slots=True)
class Span:
    """Runs of one request that a pass takes."""

    of: "RunsByLength"
    first: int  # place by length
    count: int

    @property
    def runs(self) -> TokenRuns:
        """Runs from the shortest on."""
        return self.of.runs.part(self.first, self.first + self.count)

    @property
    def rows(self) -> int:
        """Rows that they will have."""
        counts = self.of.counts
        return self.count if counts is None else int(counts[self.first : self.first + self.count].sum())

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each. [count]"""
        return self.of.lengths[self.first : self.first + self.count]

    def record(self, results: NDArray[Any]) -> None:
        """Keeps their results. [rows, ...]"""
        keep = self.of.keep
        self.of.parts[self.first] = results if keep is None else keep(results)
        self.of.done += self.count


@dataclass(slots=True, eq=False)
class RunsByLength:
    """Runs from the shortest on, how many are taken into passes, and how many of those are done."""

    runs: TokenRuns
    lengths: NDArray[np.int64]  # [runs] tokens, ascending
    order: NDArray[np.int64] | None  # [runs] place of each in the request; None: as they stand
    row_of: RowOf = "run"
    counts: NDArray[np.int64] | None = None  # [runs] rows of each; None: one
    taken: int = 0
    done: int = 0
    keep: Callable[[NDArray[Any]], Any] | None = None  # makes what is kept of results as they come; None: all
    # What is kept of results, by first run: each [some rows, ...].
    parts: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, runs: TokenRuns, noun: str, row_of: RowOf = "run", markers: NDArray[np.int64] | None = None
    ) -> "RunsByLength":
        """Sorts. Raises `InvalidRequest`, calling a run a `noun`, when there is none or one has no tokens.

        `markers` [runs] are those of each run, where a row is of one.
        """
        assert (markers is None) == (row_of != "marker")
        lengths = runs.lengths
        if not len(lengths):
            raise InvalidRequest(f"a request without {noun}s: give at least one")
        if lengths.min() == 0:
            raise InvalidRequest(f"{noun} {int(np.argmin(lengths))} has no tokens: give at least one")
        counts = lengths if row_of == "token" else markers
        if (lengths[1:] >= lengths[:-1]).all():
            return cls(runs, lengths, None, row_of, counts)
        order = np.argsort(lengths, kind="stable")
        sorted_counts = None if counts is None else counts[order]
        return cls(runs.take(order), lengths[order], order, row_of, sorted_counts)

    @property
    def exhausted(self) -> bool:
        """True when all are taken."""
        return self.taken == len(self.lengths)

    @property
    def finished(self) -> bool:
        """True when all are done."""
        return self.done == len(self.lengths)

    @property
    def tokens(self) -> int:
        """Tokens of all runs."""
        return len(self.runs.ids)

    @property
    def remaining(self) -> NDArray[np.int64]:
        """Lengths of the runs not taken. [remaining]"""
        return self.lengths[self.taken :]

    @property
    def remaining_tokens(self) -> int:
        """Tokens of the runs not taken."""
        return self.tokens if not self.taken else int(self.remaining.sum())

    def upcoming(self, count: int) -> Span:
        """Returns the next runs, which stay where they are."""
        return Span(self, self.taken, count)

    def take(self, count: int) -> None:
        """Notes that the next runs are in a pass now."""
        self.taken += count

    def kept(self) -> list[Any]:
        """Gives what is kept of all results, by length."""
        assert self.finished
        return [self.parts[first] for first in sorted(self.parts)]  # passes may have ended in another order

    def results(self) -> NDArray[Any]:
        """Results of all runs in the order of the request. [rows, ...]"""
        parts = self.kept()
        by_length = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if self.order is None:
            return by_length
        given = np.empty_like(by_length)
        given[self._given_rows(self.order)] = by_length
        return given

    def _given_rows(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Gives the place in the request of each row as they stand by length. [rows]"""
        if self.counts is None:
            return order
        given = np.empty_like(self.counts)
        given[order] = self.counts
        begins = offsets_of(given)[:-1][order]
        return np.repeat(begins, self.counts) + places_within(self.counts)
