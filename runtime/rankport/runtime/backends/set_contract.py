"""The seam between an engine of rankers of sets and a device: histories, and all candidates behind one.

Owns what is passed over it. As in `contract`, a backend is driven by one thread at a time; on a CPU, unless its graphs
gather rows of ids, by as many as there are passes beside each other.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixKV, PrefixPieces, RecordingCounts, Started

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Features of events or candidates, in the order of the schema.

    Of graphs that gather rows of ids, `values` has the other features alone, and `places` says which rows: -1 is one
    of zeros.
    """

    values: NDArray[np.float32]  # [rows, width]
    places: Places  # [rows, features of ids]; [rows, 0] where `values` has them

    @classmethod
    def of_values(cls, values: NDArray[np.float32]) -> Self:
        """Makes rows whose ids are looked up already."""
        return cls(values, np.zeros((len(values), 0), np.int64))

    def __len__(self) -> int:
        return len(self.values)

    def part(self, rows: slice | NDArray[np.int64]) -> Self:
        """Takes some of the rows."""
        return type(self)(self.values[rows], self.places[rows])


class StoredRows(Protocol):
    """Rows of the tables of ids as their files keep them. Any thread may read."""

    def read(self, table: str, places: Places) -> tuple[NDArray[np.generic], NDArray[np.float32] | None]:
        """Reads rows [places, width] in the type of the file, and of int8 their scales [places].

        Raises Unavailable where the file was written over or cut since it was opened.
        """


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Counters of rows of ids that passes of a device needed, and how many lie there now."""

    resident: int = 0  # that were there
    sent: int = 0
    kept: int = 0  # now


@dataclass(frozen=True, slots=True)
class History:
    """Events of one user whose state is there."""

    state: PrefixPieces  # one piece behind the other
    times: NDArray[np.int64]  # [events], in whole seconds

    @classmethod
    def nothing(cls) -> "History":
        """Makes the history of no events."""
        return cls((), np.zeros(0, np.int64))


class SetBackend(Protocol):
    """Histories and all candidates behind one: state of events once, then a row a candidate."""

    @property
    def recordings(self) -> RecordingCounts | None:
        """Counts of the passes so far; None where nothing is recorded."""

    @property
    def rows(self) -> RowCounts | None:
        """Counts of rows of ids so far; None where graphs gather none. Any thread may ask."""

    def read_ahead(self, events: FeatureRows, candidates: FeatureRows) -> None:
        """Reads rows of ids that a pass would send from their files now, where that may wait. Any thread may.

        Raises as `StoredRows.read`.
        """

    def extend(self, past: History, events: FeatureRows, times: NDArray[np.int64]) -> PrefixKV:
        """Computes the state of events, at least one, right behind a past. Times [events]"""

    def start(
        self,
        past: History,
        now: int,
        candidates: FeatureRows,
        sessions: NDArray[np.int64] | None = None,
    ) -> Started[np.float32]:
        """Starts the logits of candidates, at least one: [candidates, heads].

        Each sees the history and itself, with `sessions` [candidates] those of its session too. Several passes may be
        under way; they end in order.
        """

    def split(self, state: PrefixKV, length: int) -> tuple[PrefixKV, PrefixKV]:
        """Splits the state of events as `PrefixBackend.split`."""

    def close(self) -> None:
        """Frees the device."""
