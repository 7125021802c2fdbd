"""The runs of one request by length, taken pass by pass, and their results in the request's own order.

Neighbours in length share a pass with little padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest

RunT = TypeVar("RunT")


@dataclass(slots=True, eq=False)
class ByLength(Generic[RunT]):
    """Runs from the shortest on, how many are taken into passes, and how many of those are done."""

    runs: tuple[RunT, ...]
    order: NDArray[np.int64]  # [runs] indices by length
    lengths: NDArray[np.int64]  # [runs] tokens, ascending
    taken: int = 0
    done: int = 0
    parts: list[NDArray[Any]] = field(default_factory=list)  # results so far, each [some runs, ...]

    @classmethod
    def of(cls, runs: Sequence[RunT], lengths: Sequence[int], noun: str) -> "ByLength[RunT]":
        """Sorts. Raises `InvalidRequest`, calling a run a `noun`, when there is none or one has no tokens."""
        if not lengths:
            raise InvalidRequest(f"a request without {noun}s: give at least one")
        if 0 in lengths:
            raise InvalidRequest(f"{noun} {lengths.index(0)} has no tokens: give at least one")
        tokens = np.asarray(lengths, np.int64)
        order = np.argsort(tokens, kind="stable")
        return cls(tuple(runs), order, tokens[order])

    @property
    def exhausted(self) -> bool:
        """Whether all are taken."""
        return self.taken == len(self.runs)

    @property
    def finished(self) -> bool:
        """Whether all are done."""
        return self.done == len(self.runs)

    @property
    def tokens(self) -> int:
        """Of all runs."""
        return int(self.lengths.sum())

    @property
    def remaining(self) -> NDArray[np.int64]:
        """Lengths of the runs not taken. [remaining]"""
        return self.lengths[self.taken :]

    def upcoming(self, count: int) -> list[RunT]:
        """The next runs."""
        return [self.runs[index] for index in self.order[self.taken : self.taken + count]]

    def take(self, count: int) -> None:
        """The next runs are in a pass now."""
        self.taken += count

    def record(self, results: NDArray[Any]) -> None:
        """Keeps the results of the next runs taken. [some runs, ...]"""
        self.parts.append(results)
        self.done += len(results)

    def results(self) -> NDArray[Any]:
        """Results of all runs in the order they were given. [runs, ...]"""
        assert self.finished
        by_length = np.concatenate(self.parts)
        given = np.empty_like(by_length)
        given[self.order] = by_length
        return given
