"""`TokenStore` and, of one encoder, `TokenNamespace`: the promises that every kind of token store keeps.

Owns what all kinds share: the checks of a namespace's name and spec, one namespace object for each encoder, reads
given apart. Where the tokens lie, and how they get there, is the kinds' own; `opening` picks the kind by a location.

Any thread may call an open store; a child forked from its process may not.
"""

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.runtime.store.token_spec import CONTENT_HASH_BYTES, TokenSpec

_FINGERPRINT = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """Item to store."""

    key: str
    tokens: NDArray[np.floating]  # [k, hidden] of the namespace's spec
    content_hash: bytes  # [16] of whatever decides the tokens


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """Facts of a stored item beside its tokens."""

    content_hash: bytes  # [16]
    written_at: datetime  # UTC


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """Tokens of the keys that a store has, of those that were asked for."""

    tokens: NDArray[np.floating]  # [there, k, hidden], read-only
    places: NDArray[np.int64]  # [there] of each among the keys, ascending


class Written(NamedTuple):
    """Key of the store."""

    key: str
    mark: bytes  # another where its tokens were written anew


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

        So an encode job writes a corrupt value anew instead of trusting its hash.

        Raises:
            InvalidRequest: something is not an item key.
            StoreError: the store is closed.
        """

    @abstractmethod
    def put_many(self, entries: Sequence[TokenEntry]) -> None:
        """Stores all entries durably; the last of equal keys wins.

        Raises:
            InvalidRequest: something is not an item key, or an entry does not fit the namespace's spec.
            StoreError: the store is read-only or closed, or it failed (a full disk).
        """

    @abstractmethod
    def delete_many(self, keys: Sequence[str]) -> int:
        """Deletes the keys; returns how many of them were there.

        Raises:
            InvalidRequest: something is not an item key.
            StoreError: the store is read-only or closed.
        """

    @abstractmethod
    def pages(self) -> Iterator[list[Written]]:
        """Yields the keys with their marks, some at a time, in no promised order, without what is corrupt.

        Writes during the iteration may or may not show.

        Raises:
            StoreError: the store is closed.
        """

    @abstractmethod
    def version(self) -> int:
        """Returns a number that differs after every write to the store."""

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
        if len(entry.content_hash) != CONTENT_HASH_BYTES:
            given = f"{len(entry.content_hash)} bytes, not {CONTENT_HASH_BYTES}"
            raise InvalidRequest(f"content hash of {entry.key!r} has {given}")

    def corrupt(self, key: str, error: ValueError) -> StoreError:
        """Words the error of a value that does not hold what its layout says."""
        return StoreError(
            f"the stored value of item {key!r} of encoder {self.fingerprint} is corrupt: {error}; "
            "encode the item again"
        )


class TokenStore(ABC):
    """Namespaces of embedding tokens, one for each encoder; a context manager."""

    def __init__(self, location: str) -> None:
        self.location = location  # path or URL, as messages name it
        self._lock = threading.Lock()
        self._namespaces: dict[str, TokenNamespace] = {}

    def namespace(
        self, fingerprint: str, spec: TokenSpec | None = None, create: bool = False
    ) -> TokenNamespace:
        """Opens the namespace of an encoder. With `create`, made with `spec` if there is none.

        Raises:
            InvalidRequest: not a fingerprint, or `create` without `spec`.
            StoreError: unknown fingerprint, or stored with another spec; the message lists what there is.
        """
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise InvalidRequest(f"encoder fingerprint {fingerprint!r}: use 1 to 128 of A-Z a-z 0-9 . _ -")
        if create and spec is None:
            raise InvalidRequest(f"creating namespace {fingerprint} needs its TokenSpec")
        self._check_process()
        with self._lock:
            known = self._namespaces.get(fingerprint)
            if known is None:
                known = self._open(fingerprint, spec if create else None)
                self._namespaces[fingerprint] = known
        if spec is not None and spec != known.spec:
            raise StoreError(
                f"tokens of encoder {fingerprint} are {known.spec}, not {spec}. {self.contents()}"
            )
        return known

    @abstractmethod
    def fingerprints(self) -> Mapping[str, TokenSpec]:
        """Lists the encoders whose tokens the store has.

        Raises:
            StoreError: a spec cannot be read, or the store is closed.
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

    @abstractmethod
    def _check_process(self) -> None:
        """Raises `StoreError` in a forked child."""

    def contents(self) -> str:
        """Tells the encoders whose tokens are here, for an error's message."""
        specs = self.fingerprints()
        listed = "; ".join(f"{fingerprint}: {spec}" for fingerprint, spec in specs.items())
        return f"Token store {self.location} has {listed or 'no tokens yet'}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, fingerprint: str, spec: TokenSpec | None) -> TokenNamespace:
        if spec is not None and fingerprint not in self.fingerprints():
            self._create_namespace(fingerprint, spec)
        stored = self.fingerprints().get(fingerprint)
        if stored is None:
            raise StoreError(f"no tokens of encoder {fingerprint} here. {self.contents()}")
        return self._open_namespace(fingerprint, stored)

    def corrupt_spec(self, fingerprint: str, value: bytes) -> StoreError:
        """Words the error of a spec that cannot be read."""
        return StoreError(
            f"token store {self.location}: the spec of encoder {fingerprint} is corrupt: {value[:200]!r}"
        )
