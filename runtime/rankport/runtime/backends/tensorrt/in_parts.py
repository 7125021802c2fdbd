"""Passes that a plan's profiles do not take as a whole, in parts that they do.

Owns the cutting. Passes over one prefix within the limits that a plan was built for never come here in parts.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import (
    PrefixBackend,
    PrefixBatch,
    PrefixPieces,
    RecordingCounts,
    SplitKV,
    Started,
)
from rankport.runtime.backends.layouts.packed import axes_of, rounded_packed, sizes_of
from rankport.runtime.backends.tensorrt.profiles import VALUE_INPUTS, Profile
from rankport.runtime.bundle.manifest import Role

_MAX_UNDER_WAY = 2
"""Passes started and not read, as many as a plan has without parts."""


class BackendInParts:
    """A backend whose passes fit a profile. Implements `PrefixBackend`; a single run goes as it is."""

    def __init__(self, backend: PrefixBackend, profiles: Mapping[Role, Sequence[Profile]]) -> None:
        self._backend, self._profiles = backend, profiles
        self._under_way: deque[_Pass] = deque()
        self.table = backend.table

    @property
    def recordings(self) -> RecordingCounts | None:
        """See `PrefixBackend.recordings`."""
        return self._backend.recordings

    def prefill(self, batch: PrefixBatch) -> PrefixPieces:
        """See `PrefixBackend.prefill`."""
        if self._takes("prefix", batch):
            return self._backend.prefill(batch)
        return tuple(kv for part in halves(batch) for kv in self.prefill(part))

    def score(self, batch: PrefixBatch) -> NDArray[np.float32]:
        """See `PrefixBackend.score`."""
        return self.start(batch).results()

    def start(self, batch: PrefixBatch) -> Started[np.float32]:
        """See `PrefixBackend.start`."""
        if self._takes("score", batch):
            return self._start(batch)
        parts = [self.start(part) for part in halves(batch)]
        return Started(
            lambda: np.concatenate([part.results() for part in parts]), done=all(part.done for part in parts)
        )

    @property
    def split(self) -> SplitKV | None:
        """See `PrefixBackend.split`."""
        return self._backend.split

    def close(self) -> None:
        """See `PrefixBackend.close`."""
        self._backend.close()

    def _start(self, batch: PrefixBatch) -> Started[np.float32]:
        # The parts of one pass are many: what a device keeps answers in is not, so the oldest are read first.
        while len(self._under_way) >= _MAX_UNDER_WAY:
            self._under_way.popleft().end()
        started = self._backend.start(batch)
        made = _Pass(started.results)
        self._under_way.append(made)
        return Started(made.logits, started.done)

    def _takes(self, role: Role, batch: PrefixBatch) -> bool:
        if len(batch.runs) == 1:
            return True
        sizes = rounded_packed(sizes_of(batch))
        slots = sizes.rows * sizes.row_tokens if role == "prefix" else 0
        asked = axes_of(sizes) | dict.fromkeys(VALUE_INPUTS, slots)
        return any(profile.misfit(asked) is None for profile in self._profiles[role])


class _Pass:
    """A pass under way, whose answer or error is kept once it is read, and nothing else of it."""

    def __init__(self, results: Callable[[], NDArray[np.float32]]) -> None:
        self._results: Callable[[], NDArray[np.float32]] | None = results
        self._answer: NDArray[np.float32] | BackendError | None = None

    def end(self) -> None:
        if self._results is not None:
            try:
                self._answer = self._results()
            except BackendError as error:
                self._answer = error
            self._results = None

    def logits(self) -> NDArray[np.float32]:
        self.end()
        assert self._answer is not None
        if isinstance(self._answer, BackendError):
            raise self._answer
        return self._answer


def halves(batch: PrefixBatch) -> tuple[PrefixBatch, PrefixBatch]:
    """Cuts into two batches of at least one run each: half of the prefixes each, or half of the runs of one."""
    owner = batch.run_prefix
    middle = len(batch.runs) // 2
    if owner[0] != owner[-1]:
        # Where a prefix's runs begin, the nearest to the middle.
        starts = np.flatnonzero(np.diff(owner)) + 1
        middle = int(starts[np.abs(starts - middle).argmin()])
    return _part(batch, 0, middle), _part(batch, middle, len(batch.runs))


def _part(batch: PrefixBatch, start: int, stop: int) -> PrefixBatch:
    kept, places = np.unique(batch.run_prefix[start:stop], return_inverse=True)
    prefixes = tuple(batch.prefixes[index] for index in kept)
    return PrefixBatch(prefixes, batch.runs.part(start, stop), places.astype(np.int64))
