"""Copies of an encoder's tokens from one kind of store to another, compared bit for bit before they count.

Owns the order of the steps, and the comparison. A copy that was killed goes on when it is run again: a store that is
written to keeps whole batches, a snapshot what is staged, as long as its source was not written to since.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.protos.wording import be, counted
from rankport.runtime.store.copy_ends import Batch, Copied, CopySource, CopyTarget

_KEPT_KEYS = 10  # of those that are told by name


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """Items that are done with so far, in this pass."""

    stage: str  # "copied" | "compared"
    items: int
    total: int  # of this pass, as the source counts them


@dataclass(frozen=True, slots=True)
class CopyReport:
    """Report of a copy. Every item of the source is written, was there, or is unreadable."""

    items: int  # of the source
    written: int
    unchanged: int
    unreadable: int  # values of the source that are corrupt
    unreadable_keys: tuple[str, ...]  # the first of them
    compared: int  # bit for bit, at the end
    stored: int  # items in the target: more than those compared, where it had others
    seconds: float


def copy_tokens(
    source: CopySource,
    target: CopyTarget,
    on_progress: Callable[[CopyProgress], None] = lambda _: None,
) -> CopyReport:
    """Copies all items of a source, compares them, has the target show them, and closes it.

    Raises:
        InvalidRequest: a token is too large for the target's dtype; the message names its item.
        StoreError: a store failed, or the copy differs from its source; what was written stays.
    """
    begun_s = time.perf_counter()
    copy = _Copy(source, target, on_progress)
    with closing(target):
        written, unreadable = copy.write_all()
        with target.reading() as copied:
            compared = copy.compare_all(copied)
            stored = len(copied)
        if target.made_whole and stored > compared:
            target.close(spoiled=True)
            raise StoreError(
                f"the copy has {counted(stored, 'item')} of encoder {source.fingerprint}, and the source {compared} by "
                "now: it was written to meanwhile; run the copy again"
            )
        target.publish()
    return CopyReport(
        items=compared + len(unreadable),
        written=written,
        unchanged=max(0, compared - written),  # some may be deleted in the source by now
        unreadable=len(unreadable),
        unreadable_keys=tuple(unreadable[:_KEPT_KEYS]),
        compared=compared,
        stored=stored,
        seconds=time.perf_counter() - begun_s,
    )


class _Copy:
    def __init__(
        self, source: CopySource, target: CopyTarget, on_progress: Callable[[CopyProgress], None]
    ) -> None:
        self._source, self._target, self._on_progress = source, target, on_progress

    def write_all(self) -> tuple[int, list[str]]:
        """Writes what is not there yet; returns how many items, and the keys of those that cannot be read."""
        written = 0
        unreadable: list[str] = []
        for batch in self._batches("copied"):
            unreadable += batch.unreadable
            absent = _part(batch, self._target.absent(batch.keys, batch.infos))
            if absent.keys:
                self._target.write(absent.keys, absent.infos, self._as_kept(absent))
            written += len(absent.keys)
        return written, unreadable

    def compare_all(self, copied: Copied) -> int:
        """Compares all items, writing anew what differs where that can be; returns how many are equal."""
        compared = 0
        for batch in self._batches("compared"):
            tokens = self._as_kept(batch)
            places = copied.differing(batch, tokens)
            wrong = _part(batch, places)
            if places and self._target.repair(wrong.keys, wrong.infos, tokens[places]):
                places = copied.differing(batch, tokens)
            if places:
                self._target.close(spoiled=True)  # a copy that goes on would not write them again
                raise StoreError(
                    f"{counted(len(places), 'item')} of encoder {self._source.fingerprint} {be(len(places))} not as "
                    "in the source, "
                    f"{batch.keys[places[0]]!r} first: it was written to meanwhile, or a disk fails; run the copy again"
                )
            compared += len(batch.keys)
        return compared

    def _batches(self, stage: str) -> Iterator[Batch]:
        total, seen = len(self._source), 0
        for batch in self._source.batches():
            yield batch
            seen += len(batch.keys) + len(batch.unreadable)
            self._on_progress(CopyProgress(stage, seen, total))

    def _as_kept(self, batch: Batch) -> NDArray[np.floating]:
        """Makes of tokens what the target gives back."""
        spec = self._target.spec
        with np.errstate(over="ignore"):
            cast = batch.tokens.astype(spec.numpy_dtype, copy=False)
        if cast.dtype.itemsize < batch.tokens.dtype.itemsize:
            lost = np.isfinite(batch.tokens).all(axis=(1, 2)) & ~np.isfinite(cast).all(axis=(1, 2))
            if lost.any():
                key = batch.keys[int(lost.argmax())]
                raise InvalidRequest(f"tokens of {key!r} are too large for {spec.numpy_dtype.name}")
        return spec.as_read(cast)


def _part(batch: Batch, places: Sequence[int]) -> Batch:
    """Takes some of the items."""
    if len(places) == len(batch.keys):
        return batch
    keys, infos = [batch.keys[place] for place in places], [batch.infos[place] for place in places]
    return Batch(keys, infos, batch.tokens[list(places)])
