"""`TokenStore` and, of one encoder, `TokenNamespace`: the promises that every kind of token store keeps.

Owns what all kinds share: the checks of a namespace's name and spec, one namespace object for each encoder, reads
given apart. Where the tokens lie, and how they get there, is the kinds' own; `opening` picks the kind by a location.

Any thread may call an open store; a child forked from its process may not.
"""

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.protos.processes.own_process import StaysInProcess
from rankport.runtime.store.entries import EntryInfo, Fence, StoredTokens, TokenEntry, Written, fence_here
from rankport.runtime.store.refusals import not_published
from rankport.runtime.store.token_spec import CONTENT_HASH_BYTES, TokenSpec

__all__ = ["EntryInfo", "StoredTokens", "TokenEntry", "TokenNamespace", "TokenStore", "Written"]

_FINGERPRINT = re.compile(r"[A-Za-z0-9._-]{1,128}")


class TokenNamespace(ABC):
    """Item key -> tokens of one encoder. Any thread may call it while its store is open."""

    def __init__(self, fingerprint: str, spec: TokenSpec) -> None:
        self.fingerprint = fingerprint
        self.spec = spec

    @abstractmethod
    def read(self, keys: Sequence[str], *, skip_corrupt: bool = False) -> StoredTokens:
        """Reads the tokens of those keys that are there, all of one moment.

        Raises:
            InvalidRequest: something is not an item key.
            StoreError: a value is corrupt (the message names its key) and not to be skipped, or the store is closed.
        """

    @abstractmethod
    def info_many(self, keys: Sequence[str]) -> list[EntryInfo | None]:
        """Returns content hash and write time of each key, None where it is absent; raises as `read`."""

    @abstractmethod
    def content_hashes(self, keys: Sequence[str]) -> list[bytes | None]:
        """Returns the content hash of each key, None where it is absent *or its value is corrupt*.

        So an encode job writes a corrupt value anew instead of trusting its hash. Otherwise raises as `read`.
        """

    def fence(self, keys: Sequence[str], seconds: float) -> Fence:
        """Makes the fence of a write that must come within so many seconds from now, or not at all."""
        return fence_here(keys, seconds)

    @abstractmethod
    def put_many(
        self, entries: Sequence[TokenEntry], *, fence: Fence | None = None, replace: bool = True
    ) -> None:
        """Stores all entries durably, of equal keys the last; without `replace` the first, if there was none before.

        Raises:
            InvalidRequest: something is not an item key, or an entry does not fit the namespace's spec.
            StoreError: the store is read-only or closed, or it failed (a full disk).
            LateWriteError: the `fence` has passed.
        """

    @abstractmethod
    def delete_many(self, keys: Sequence[str], *, fence: Fence | None = None) -> int:
        """Deletes the keys; returns how many of them were there. Raises as `put_many`."""

    def prolong(self, keys: Sequence[str]) -> None:
        """Has keys that are there live on as if they were written now, where items expire; raises as `put_many`."""
        _ = keys  # nothing: here they do not

    @abstractmethod
    def pages(self) -> Iterator[list[Written]]:
        """Yields the keys with their marks, some at a time, in no promised order, without what is corrupt.

        Writes during the iteration may or may not show. Raises `StoreError` where the store is closed.
        """

    @abstractmethod
    def version(self) -> int:
        """Returns a number that differs after every write to the store."""

    @property
    def generation(self) -> int:
        """Number that is another once another store came into the place of the one that was opened."""
        return 0

    @property
    @abstractmethod
    def writable(self) -> bool:
        """False where the store was opened to be read."""

    @property
    @abstractmethod
    def alive(self) -> bool:
        """False where no read would succeed now."""

    @abstractmethod
    def __len__(self) -> int:
        """Counts the keys."""

    def __bool__(self) -> bool:
        return True  # an empty namespace is still a namespace: `if namespace` asks for None

    def keys(self) -> Iterator[str]:
        """Yields all keys; otherwise as `pages`."""
        return (entry.key for page in self.pages() for entry in page)

    def get_many(
        self, keys: Sequence[str], *, skip_corrupt: bool = False
    ) -> list[NDArray[np.floating] | None]:
        """Returns the tokens of each key, [k, hidden] read-only, or None; raises as `read`.

        The arrays share one block of memory, freed with the last of them.
        """
        stored = self.read(keys, skip_corrupt=skip_corrupt)
        tokens: list[NDArray[np.floating] | None] = [None] * len(keys)
        for place, rows in zip(stored.places.tolist(), stored.tokens, strict=True):
            tokens[place] = rows
        return tokens

    def check_entry(self, entry: TokenEntry) -> None:
        """Makes sure that an entry fits the spec. Raises `InvalidRequest` with its key."""
        tokens, spec = entry.tokens, self.spec
        if tokens.shape != (spec.tokens, spec.hidden_size) or tokens.dtype != spec.numpy_dtype:
            raise InvalidRequest(
                f"tokens of {entry.key!r} are {list(tokens.shape)} {tokens.dtype}, not {spec}"
            )
        if spec.dtype == "int8" and not np.isfinite(tokens).all():
            raise InvalidRequest(f"tokens of {entry.key!r} are not all finite: int8 has no room for that")
        if len(entry.content_hash) != CONTENT_HASH_BYTES:
            given = f"{len(entry.content_hash)} bytes, not {CONTENT_HASH_BYTES}"
            raise InvalidRequest(f"content hash of {entry.key!r} has {given}")

    def corrupt(self, key: str, error: ValueError, mend: str = "encode the item again") -> StoreError:
        """Words the error of a value that does not hold what its layout says, and how to `mend` it."""
        return StoreError(
            f"the stored value of item {key!r} of encoder {self.fingerprint} is corrupt: {error}; {mend}"
        )


class TokenStore(StaysInProcess, ABC):
    """Namespaces of embedding tokens, one for each encoder; a context manager."""

    can_hide = False  # tokens until they are published
    counts_by_scan = False  # of all that lies beside its items: `len` of a namespace takes seconds a million

    def __init__(self, location: str) -> None:
        self.location = location  # path or URL, as messages name it
        self._lock = threading.Lock()
        self._namespaces: dict[str, TokenNamespace] = {}

    def namespace(
        self, fingerprint: str, spec: TokenSpec | None = None, create: bool = False, *, filling: bool = False
    ) -> TokenNamespace:
        """Opens the namespace of an encoder. With `create`, made with `spec` if there is none.

        With `filling`, one that is made is hidden from who reads until `publish`. A hidden one opens with `create`, to
        write to it, or with `filling`, to look into it.

        Raises:
            InvalidRequest: not a fingerprint, or `create` without `spec`.
            StoreError: unknown or hidden fingerprint, or stored with another spec; the message lists what there is.
        """
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise InvalidRequest(f"encoder fingerprint {fingerprint!r}: use 1 to 128 of A-Z a-z 0-9 . _ -")
        if create and spec is None:
            raise InvalidRequest(f"creating namespace {fingerprint} needs its TokenSpec")
        self._check_process()
        with self._lock:
            stored = self._stored_spec(fingerprint, spec if create else None, filling)
            known = self._namespaces.get(fingerprint)
            if known is None:
                known = self._namespaces[fingerprint] = self._open_namespace(fingerprint, stored)
        if spec is not None and spec != known.spec:
            kept, same = known.spec.dtype, known.spec.elements == spec.elements
            told = (
                f"{known.spec}, not {spec}"
                + same * f": write them so (--token-dtype {kept}), or to another store"
            )
            raise StoreError(f"tokens of encoder {fingerprint} are {told}. {self.contents()}")
        return known

    @abstractmethod
    def fingerprints(self) -> Mapping[str, TokenSpec]:
        """Lists the encoders whose tokens are published.

        Raises:
            StoreError: a spec cannot be read, or the store is closed.
        """

    def filling(self) -> Mapping[str, TokenSpec]:
        """Lists the encoders whose tokens are hidden until they are published; raises as `fingerprints`."""
        return {}

    def publish(self, fingerprint: str) -> None:
        """Shows hidden tokens to all readers, running servers too, in one step; published ones stay so.

        Raises:
            StoreError: no tokens of that encoder, or the store is read-only.
        """
        if fingerprint in self.filling():
            self._publish(fingerprint)
        elif fingerprint not in self.fingerprints():
            raise self._unknown(fingerprint)

    def drop(self, fingerprint: str) -> None:
        """Deletes all tokens of an encoder, hidden or not; raises as `publish`."""
        with self._lock:
            if fingerprint not in {**self.fingerprints(), **self.filling()}:
                raise self._unknown(fingerprint)
            self._drop(fingerprint)
            self._namespaces.pop(fingerprint, None)

    @property
    def writable(self) -> bool:
        """False where the store was opened to be read."""
        return True

    @abstractmethod
    def beside(self) -> "TokenStore":
        """Opens the store once more, to write to it while this one is read.

        Raises:
            InvalidRequest: a store of this kind is never written to, or not by a process that reads it.
            StoreError: it cannot be opened.
        """

    @abstractmethod
    def close(self) -> None:
        """Waits for reads and writes in other threads and frees what is open. Closing twice does nothing."""

    @abstractmethod
    def _open_namespace(self, fingerprint: str, spec: TokenSpec) -> TokenNamespace:
        """Opens a namespace that is there, with the spec it is stored with."""

    @abstractmethod
    def _create_namespace(self, fingerprint: str, spec: TokenSpec) -> None:
        """Makes a namespace durably; one that another process made first stays as it is."""

    def _create_hidden(self, fingerprint: str, spec: TokenSpec) -> None:
        """Makes a namespace as `_create_namespace`, hidden."""
        raise self._cannot("hide tokens until they are published")

    def _publish(self, fingerprint: str) -> None:
        raise self._cannot("hide tokens until they are published")

    def _drop(self, fingerprint: str) -> None:
        raise self._cannot("drop the tokens of an encoder")

    @abstractmethod
    def _check_process(self) -> None:
        """Raises `StoreError` in a forked child."""

    def contents(self) -> str:
        """Tells the encoders whose tokens are here, for an error's message."""
        listed = [f"{fingerprint}: {spec}" for fingerprint, spec in self.fingerprints().items()]
        listed += [f"{fingerprint}: {spec}, not published" for fingerprint, spec in self.filling().items()]
        return f"Token store {self.location} has {'; '.join(listed) or 'no tokens yet'}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stored_spec(self, fingerprint: str, new: TokenSpec | None, filling: bool) -> TokenSpec:
        """Returns the spec of a namespace, made with `new` if there is none."""
        published, hidden = self.fingerprints(), self.filling()
        if new is not None and fingerprint not in {**published, **hidden}:
            (self._create_hidden if filling else self._create_namespace)(fingerprint, new)
            published, hidden = self.fingerprints(), self.filling()
        stored = published.get(fingerprint)
        if stored is None and (filling or new is not None):
            stored = hidden.get(fingerprint)
        if stored is None and fingerprint in hidden:
            raise StoreError(not_published(fingerprint, self.location))
        if stored is None:
            raise self._unknown(fingerprint)
        return stored

    def _unknown(self, fingerprint: str) -> StoreError:
        return StoreError(f"no tokens of encoder {fingerprint} here. {self.contents()}")

    def _cannot(self, what: str) -> StoreError:
        return StoreError(f"token store {self.location} cannot {what}: a store in LMDB can")
