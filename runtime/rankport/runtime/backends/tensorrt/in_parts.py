"""Passes that a plan's profiles do not take as a whole, in parts that they do.

Owns the cutting. Passes over one prefix within the limits that a plan was built for never come here in parts.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import EMBEDDED, Launched, PrefixKV, RaggedBatch, ScoringBackend
from rankport.runtime.backends.layouts.sizes import Sizes
from rankport.runtime.backends.tensorrt.profiles import VALUE_INPUTS, Profile
from rankport.runtime.bundle.manifest import Role

_MAX_UNDER_WAY = 2
"""Passes begun and not read, as many as a plan has without parts."""


class BackendInParts:
    """A backend whose passes fit a profile. Implements `ScoringBackend`; a single run goes as it is."""

    def __init__(self, backend: ScoringBackend, profiles: Mapping[Role, Sequence[Profile]]) -> None:
        self._backend, self._profiles = backend, profiles
        self._under_way: deque[_Pass] = deque()
        self.table = backend.table

    def prefill(self, batch: RaggedBatch) -> tuple[PrefixKV, ...]:
        """See `ScoringBackend.prefill`."""
        if self._takes("prefix", batch):
            return self._backend.prefill(batch)
        return tuple(kv for part in halves(batch) for kv in self.prefill(part))

    def score(self, batch: RaggedBatch) -> NDArray[np.float32]:
        """See `ScoringBackend.score`."""
        return self.launch(batch).results()

    def launch(self, batch: RaggedBatch) -> Launched[np.float32]:
        """See `ScoringBackend.launch`."""
        if self._takes("score", batch):
            return self._launch(batch)
        parts = [self.launch(part) for part in halves(batch)]
        return Launched(
            lambda: np.concatenate([part.results() for part in parts]), done=all(part.done for part in parts)
        )

    def split(self, kv: PrefixKV, length: int) -> tuple[PrefixKV, PrefixKV]:
        """See `ScoringBackend.split`."""
        return self._backend.split(kv, length)

    def close(self) -> None:
        """See `ScoringBackend.close`."""
        self._backend.close()

    def _launch(self, batch: RaggedBatch) -> Launched[np.float32]:
        # The parts of one pass are many: what a device keeps answers in is not, so the oldest are read first.
        while len(self._under_way) >= _MAX_UNDER_WAY:
            self._under_way.popleft().end()
        made = _Pass(self._backend.launch(batch))
        self._under_way.append(made)
        return Launched(made.logits, made.launched.done)

    def _takes(self, role: Role, batch: RaggedBatch) -> bool:
        if len(batch.runs) == 1:
            return True
        sizes = sizes_of_batch(batch).rounded_up()
        slots = sizes.items * sizes.item_tokens if role == "prefix" else 0
        asked = asdict(sizes) | dict.fromkeys(VALUE_INPUTS, slots)
        return any(profile.misfit(asked) is None for profile in self._profiles[role])


class _Pass:
    """A pass under way, whose answer or error is kept once it is read."""

    def __init__(self, launched: Launched[np.float32]) -> None:
        self.launched = launched
        self._answer: NDArray[np.float32] | BackendError | None = None

    def end(self) -> None:
        if self._answer is None:
            try:
                self._answer = self.launched.results()
            except BackendError as error:
                self._answer = error

    def logits(self) -> NDArray[np.float32]:
        self.end()
        assert self._answer is not None
        if isinstance(self._answer, BackendError):
            raise self._answer
        return self._answer


def sizes_of_batch(batch: RaggedBatch) -> Sizes:
    """Axes of the pass that a batch is packed to."""
    lengths = [len(run.ids) for run in batch.runs]
    return Sizes(
        prefixes=len(batch.prefixes),
        items=int(np.bincount(batch.run_prefix).max()),
        item_tokens=max(lengths),
        past=max(sum(piece.length for piece in pieces) for pieces in batch.prefixes),
        tokens=sum(lengths),
        items_total=len(lengths),
        embedding_count=max(1, sum(int(np.count_nonzero(run.ids == EMBEDDED)) for run in batch.runs)),
    )


def halves(batch: RaggedBatch) -> tuple[RaggedBatch, RaggedBatch]:
    """Two batches of at least one run each: half of the prefixes each, or half of the runs of one."""
    owner = batch.run_prefix
    middle = len(batch.runs) // 2
    if owner[0] != owner[-1]:
        # Where a prefix's runs begin, the nearest to the middle.
        starts = np.flatnonzero(np.diff(owner)) + 1
        middle = int(starts[np.abs(starts - middle).argmin()])
    return _part(batch, slice(0, middle)), _part(batch, slice(middle, None))


def _part(batch: RaggedBatch, runs: slice) -> RaggedBatch:
    owner = batch.run_prefix[runs]
    kept, places = np.unique(owner, return_inverse=True)
    return RaggedBatch(
        tuple(batch.prefixes[index] for index in kept), batch.runs[runs], places.astype(np.int64)
    )
