"""Copies of an encoder's tokens from one kind of store to another, compared bit for bit before they count.

Owns what is copied, in which order, and the comparison. A copy that was killed goes on when it is run again: a store
that is written to keeps whole batches, a snapshot what is staged, as long as its source was not written to since.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.runtime.store.contract import EntryInfo, TokenEntry, TokenNamespace, TokenStore
from rankport.runtime.store.snapshot.current_file import CurrentFile
from rankport.runtime.store.snapshot.namespace import SnapshotNamespace
from rankport.runtime.store.snapshot.writer import Facts, SnapshotWriter
from rankport.runtime.store.token_spec import TokenSpec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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


class CopyTarget(ABC):
    """Target of a copy."""

    spec: TokenSpec

    @abstractmethod
    def absent(self, keys: Sequence[str], infos: Sequence[EntryInfo]) -> list[int]:
        """Returns the places of those items that are not there as the source has them."""

    @abstractmethod
    def write(self, keys: Sequence[str], infos: Sequence[EntryInfo], tokens: NDArray[np.floating]) -> None:
        """Writes items durably. Raises `StoreError`."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[TokenNamespace]:
        """Opens what was written for the comparison."""

    def repair(self, keys: Sequence[str], infos: Sequence[EntryInfo], tokens: NDArray[np.floating]) -> bool:
        """Writes items anew that differ from the source; False where that cannot be."""
        return False

    @abstractmethod
    def publish(self) -> None:
        """Shows what was compared."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of what is open; a copy that was not published can go on later. Closing twice does nothing."""


class NamespaceTarget(CopyTarget):
    """Namespace of a store that is written to, item by item. One that is made is hidden until it is complete."""

    def __init__(self, store: TokenStore, fingerprint: str, spec: TokenSpec) -> None:
        """Opens or makes it. The store stays open. Raises `StoreError` for other tokens of that encoder."""
        self.spec = spec
        self._store = store
        self._namespace = store.namespace(fingerprint, spec, create=True, filling=store.can_hide)

    def absent(self, keys: Sequence[str], infos: Sequence[EntryInfo]) -> list[int]:
        """Returns the places of those items whose content hash is another, or not there."""
        there = self._namespace.content_hashes(keys)
        return [place for place, info in enumerate(infos) if info.content_hash != there[place]]

    def write(self, keys: Sequence[str], infos: Sequence[EntryInfo], tokens: NDArray[np.floating]) -> None:
        """Writes items durably. Raises `StoreError`."""
        columns = zip(keys, tokens, infos, strict=True)
        self._namespace.put_many([TokenEntry(key, rows, info.content_hash) for key, rows, info in columns])

    def repair(self, keys: Sequence[str], infos: Sequence[EntryInfo], tokens: NDArray[np.floating]) -> bool:
        """Writes items anew that have other tokens under the same content hash."""
        self.write(keys, infos, tokens)
        return True

    def reading(self) -> AbstractContextManager[TokenNamespace]:
        """Opens what was written for the comparison."""
        return nullcontext(self._namespace)

    def publish(self) -> None:
        """Shows the namespace, in one step, where it was hidden."""
        self._store.publish(self._namespace.fingerprint)

    def close(self) -> None:
        """Leaves the store open."""


class SnapshotTarget(CopyTarget):
    """Snapshot, of which nothing is seen before it is complete."""

    def __init__(self, writer: SnapshotWriter) -> None:
        self.spec = writer.spec
        self._writer = writer
        self._there = writer.written()

    def absent(self, keys: Sequence[str], infos: Sequence[EntryInfo]) -> list[int]:
        """Returns the places of those items that are not staged yet."""
        return self._writer.absent(keys, self._there) if self._there else list(range(len(keys)))

    def write(self, keys: Sequence[str], infos: Sequence[EntryInfo], tokens: NDArray[np.floating]) -> None:
        """Stages items. Raises `StoreError`."""
        written_us = [(info.written_at - _EPOCH) // timedelta(microseconds=1) for info in infos]
        self._writer.append(Facts(keys, [info.content_hash for info in infos], written_us), tokens)

    @contextmanager
    def reading(self) -> Iterator[TokenNamespace]:
        """Opens what was staged for the comparison."""
        file = CurrentFile(self._writer.seal(), 0.0)
        try:
            yield SnapshotNamespace(file)
        finally:
            file.close()

    def publish(self) -> None:
        """Puts the snapshot into its place, in one step."""
        self._writer.publish()

    def close(self) -> None:
        """Leaves what is staged to a copy that goes on. Closing twice does nothing."""
        self._writer.close()


def snapshot_target(directory: Path, source: TokenNamespace, spec: TokenSpec, origin: str) -> SnapshotTarget:
    """Begins a snapshot of a source, or goes on with one that was killed. Raises `StoreError`."""
    about = f"{origin} at {source.version()}"
    return SnapshotTarget(SnapshotWriter(directory, source.fingerprint, spec, about))


def copy_tokens(
    source: TokenNamespace,
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
        target.publish()
    return CopyReport(
        items=compared + len(unreadable),
        written=written,
        unchanged=compared - written,
        unreadable=len(unreadable),
        unreadable_keys=tuple(unreadable[:_KEPT_KEYS]),
        compared=compared,
        stored=stored,
        seconds=time.perf_counter() - begun_s,
    )


class _Copy:
    def __init__(
        self, source: TokenNamespace, target: CopyTarget, on_progress: Callable[[CopyProgress], None]
    ) -> None:
        self._source, self._target, self._on_progress = source, target, on_progress

    def write_all(self) -> tuple[int, list[str]]:
        """Writes what is not there yet; returns how many items, and the keys of those that cannot be read."""
        written, unreadable = 0, []
        for keys in self._pages("copied"):
            readable, infos = self._infos(keys)
            unreadable += sorted(set(keys) - set(readable))
            places = self._target.absent(readable, infos)
            wanted = [readable[place] for place in places]
            there, tokens = self._tokens(wanted)
            unreadable += sorted(set(wanted) - {wanted[place] for place in there})
            self._target.write(
                [wanted[place] for place in there], [infos[places[place]] for place in there], tokens
            )
            written += len(there)
        return written, unreadable

    def compare_all(self, copied: TokenNamespace) -> int:
        """Compares all items, writing anew what differs where that can be; returns how many are equal."""
        compared = 0
        for keys in self._pages("compared"):
            readable, infos = self._infos(keys)
            there, tokens = self._tokens(readable)
            names, facts = [readable[place] for place in there], [infos[place] for place in there]
            wrong = _differing(copied, names, facts, tokens)
            if wrong and self._target.repair(
                [names[place] for place in wrong], [facts[place] for place in wrong], tokens[wrong]
            ):
                wrong = _differing(copied, names, facts, tokens)
            if wrong:
                raise StoreError(
                    f"{len(wrong)} items of encoder {self._source.fingerprint} differ from their source, "
                    f"{names[wrong[0]]!r} first: it was written to meanwhile, or a disk fails; run the copy again"
                )
            compared += len(names)
        return compared

    def _pages(self, stage: str) -> Iterator[list[str]]:
        total, seen = len(self._source), 0
        for page in self._source.pages():
            yield [entry.key for entry in page]
            seen += len(page)
            self._on_progress(CopyProgress(stage, seen, total))

    def _infos(self, keys: Sequence[str]) -> tuple[list[str], list[EntryInfo]]:
        """Reads the facts of those keys whose values can be read."""
        try:
            infos = self._source.info_many(keys)
        except StoreError:
            whole = self._source.content_hashes(keys)
            keys = [key for key, content_hash in zip(keys, whole, strict=True) if content_hash is not None]
            infos = self._source.info_many(keys)
        found = [(key, info) for key, info in zip(keys, infos, strict=True) if info is not None]
        return [key for key, _ in found], [info for _, info in found]

    def _tokens(self, keys: Sequence[str]) -> tuple[list[int], NDArray[np.floating]]:
        """Reads tokens as the target gives them back, with the places of their keys."""
        stored, spec = self._source.read(keys, skip_corrupt=True), self._target.spec
        with np.errstate(over="ignore"):
            cast = stored.tokens.astype(spec.numpy_dtype)
        lost = np.isfinite(stored.tokens).all(axis=(1, 2)) & ~np.isfinite(cast).all(axis=(1, 2))
        if lost.any():
            key = keys[int(stored.places[lost][0])]
            raise InvalidRequest(f"tokens of {key!r} are too large for {spec.numpy_dtype.name}")
        return stored.places.tolist(), spec.as_read(cast)


def _differing(
    copied: TokenNamespace, keys: Sequence[str], infos: Sequence[EntryInfo], tokens: NDArray[np.floating]
) -> list[int]:
    """Returns the places of those items that are not there bit for bit."""
    stored = copied.read(keys, skip_corrupt=True)
    equal = np.zeros(len(keys), np.bool_)
    bits = f"u{tokens.dtype.itemsize}"
    equal[stored.places] = (stored.tokens.view(bits) == tokens[stored.places].view(bits)).all(axis=(1, 2))
    hashes = copied.content_hashes(keys)
    same = [content_hash == info.content_hash for content_hash, info in zip(hashes, infos, strict=True)]
    return np.flatnonzero(~(equal & np.array(same, np.bool_))).tolist()


def spec_as(spec: TokenSpec, dtype: str | None) -> TokenSpec:
    """Returns the spec with another dtype; the same where none is given. Raises `StoreError` for one unknown."""
    return spec if dtype is None else replace(spec, dtype=dtype)
