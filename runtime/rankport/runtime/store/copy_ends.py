"""Ends of a copy: what is read, once to write it and once to compare it, and what is written.

Owns how each kind of store goes on with a copy that was killed, and when its readers see the items.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import StoreError
from rankport.runtime.store.contract import EntryInfo, TokenEntry, TokenNamespace, TokenStore
from rankport.runtime.store.snapshot.current_file import CurrentFile
from rankport.runtime.store.snapshot.namespace import SnapshotNamespace
from rankport.runtime.store.snapshot.writer import Facts, SnapshotWriter
from rankport.runtime.store.token_spec import TokenSpec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Batch:
    """Items of a source that can be read, and the keys of those that cannot."""

    keys: Sequence[str]
    infos: Sequence[EntryInfo]
    tokens: NDArray[np.floating]  # [keys, k, hidden] of the source's spec
    unreadable: Sequence[str] = ()


class CopySource(Protocol):
    """Source of a copy, read twice from its start to its end."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the encoder that made the tokens."""

    @property
    def spec(self) -> TokenSpec:
        """Shape and type of an item's tokens."""

    @property
    def origin(self) -> str:
        """Name of what it holds now: another once that was written to."""

    def __len__(self) -> int:
        """Counts the items."""

    def batches(self) -> Iterator[Batch]:
        """Yields all items, some at a time. Raises `StoreError`."""


class NamespaceSource:
    """Namespace of a store, as a source."""

    def __init__(self, namespace: TokenNamespace, location: str) -> None:
        self.fingerprint, self.spec = namespace.fingerprint, namespace.spec
        self._namespace, self._location = namespace, location

    @property
    def origin(self) -> str:
        """Location of the store and version of what it holds."""
        return f"{self._location} at {self._namespace.version()}"

    def __len__(self) -> int:
        return len(self._namespace)

    def batches(self) -> Iterator[Batch]:
        """Yields a page at a time."""
        for page in self._namespace.pages():
            keys = [entry.key for entry in page]
            names, infos = self._infos(keys)
            stored = self._namespace.read(names, skip_corrupt=True)
            there = stored.places.tolist()
            readable = [names[place] for place in there]
            yield Batch(
                readable, [infos[place] for place in there], stored.tokens, sorted(set(keys) - set(readable))
            )

    def _infos(self, keys: Sequence[str]) -> tuple[list[str], list[EntryInfo]]:
        """Reads the facts of those keys whose values can be read."""
        try:
            infos = self._namespace.info_many(keys)
        except StoreError:
            whole = self._namespace.content_hashes(keys)
            keys = [key for key, content_hash in zip(keys, whole, strict=True) if content_hash is not None]
            infos = self._namespace.info_many(keys)
        found = [(key, info) for key, info in zip(keys, infos, strict=True) if info is not None]
        return [key for key, _ in found], [info for _, info in found]


class Copied(Protocol):
    """Items that were written, to be compared."""

    def differing(self, batch: Batch, tokens: NDArray[np.floating]) -> list[int]:
        """Returns the places of those items that are not there bit for bit, with `tokens` [keys, k, hidden]."""

    def __len__(self) -> int:
        """Counts the items."""


class CopiedNamespace:
    """Namespace that was written to."""

    def __init__(self, namespace: TokenNamespace) -> None:
        self._namespace = namespace

    def differing(self, batch: Batch, tokens: NDArray[np.floating]) -> list[int]:
        """Returns the places of those items that are not there bit for bit."""
        stored = self._namespace.read(batch.keys, skip_corrupt=True)
        equal = np.zeros(len(batch.keys), np.bool_)
        bits = f"u{tokens.dtype.itemsize}"
        equal[stored.places] = (stored.tokens.view(bits) == tokens[stored.places].view(bits)).all(axis=(1, 2))
        columns = zip(self._namespace.content_hashes(batch.keys), batch.infos, strict=True)
        same = np.array([content_hash == info.content_hash for content_hash, info in columns], np.bool_)
        return [int(place) for place in np.flatnonzero(~(equal & same))]

    def __len__(self) -> int:
        return len(self._namespace)


class CopyTarget(ABC):
    """Target of a copy."""

    spec: TokenSpec
    made_whole = True  # of the source's items and no others

    @abstractmethod
    def absent(self, keys: Sequence[str], infos: Sequence[EntryInfo]) -> list[int]:
        """Returns the places of those items that are not there as the source has them."""

    @abstractmethod
    def write(self, keys: Sequence[str], infos: Sequence[EntryInfo], tokens: NDArray[np.floating]) -> None:
        """Writes items durably. Raises `StoreError`."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Copied]:
        """Opens what was written for the comparison."""

    def repair(self, keys: Sequence[str], infos: Sequence[EntryInfo], tokens: NDArray[np.floating]) -> bool:
        """Writes items anew that differ from the source; False where that cannot be."""
        return False

    @abstractmethod
    def publish(self) -> None:
        """Shows what was compared."""

    @abstractmethod
    def close(self, *, spoiled: bool = False) -> None:
        """Lets go of what is open; a copy that was not published can go on later, unless what is staged is `spoiled`.

        Closing twice does nothing.
        """


class NamespaceTarget(CopyTarget):
    """Namespace of a store that is written to, item by item. One that is made is hidden until it is complete."""

    made_whole = False

    def __init__(self, store: TokenStore, fingerprint: str, spec: TokenSpec) -> None:
        """Opens or makes it. The store stays open. Raises `StoreError` for other tokens of that encoder."""
        self.spec = spec
        self._store = store
        self._namespace = store.namespace(fingerprint, spec, create=True, filling=store.can_hide)

    def absent(self, keys: Sequence[str], infos: Sequence[EntryInfo]) -> list[int]:
        """Returns the places of those items whose content hash is another, or not there."""
        self._namespace.prolong(keys)
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

    def reading(self) -> AbstractContextManager[Copied]:
        """Opens what was written for the comparison."""
        return nullcontext(CopiedNamespace(self._namespace))

    def publish(self) -> None:
        """Shows the namespace, in one step, where it was hidden."""
        self._store.publish(self._namespace.fingerprint)

    def close(self, *, spoiled: bool = False) -> None:
        """Leaves the store open, and what is written, which another copy mends."""


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
    def reading(self) -> Iterator[Copied]:
        """Opens what was staged for the comparison."""
        file = CurrentFile(self._writer.seal(), 0.0)
        try:
            yield CopiedNamespace(SnapshotNamespace(file))
        finally:
            file.close()

    def publish(self) -> None:
        """Puts the snapshot into its place, in one step."""
        self._writer.publish()

    def close(self, *, spoiled: bool = False) -> None:
        """Leaves what is staged to a copy that goes on, or deletes it. Closing twice does nothing."""
        self._writer.discard() if spoiled else self._writer.close()


def snapshot_target(directory: Path, source: CopySource, spec: TokenSpec) -> SnapshotTarget:
    """Begins a snapshot of a source, or goes on with one that was killed. Raises `StoreError`."""
    return SnapshotTarget(SnapshotWriter(directory, source.fingerprint, spec, source.origin))


def spec_as(spec: TokenSpec, dtype: str | None) -> TokenSpec:
    """Returns the spec with another dtype; the same where none is given. Raises `StoreError` for one unknown."""
    return spec if dtype is None else replace(spec, dtype=dtype)
