"""`HotTokens`: the tokens of the keys asked for last, in this process's memory, in front of a namespace.

Owns which rows are kept and when they are stale. A key costs a look-up of a dict here, and in LMDB a walk of its tree
and a checksum. Pages of the table that were never written take no memory.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.store.contract import StoredTokens, TokenEntry, TokenNamespace
from rankport.runtime.store.token_spec import TokenSpec


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """Counters of keys that a model was asked for, by where their tokens were, and how many are kept now."""

    host_keys: int  # in this process's memory
    store_keys: int  # read from the store
    missing_keys: int
    host_kept: int  # now, in this process's memory
    device_keys: int = 0  # in device memory
    device_kept: int = 0  # now, in device memory


class HotTokens:
    """Reads as its namespace does, whose every write empties it. Any thread may call it."""

    def __init__(self, namespace: TokenNamespace, max_bytes: int) -> None:
        """Keeps at most `max_bytes` of tokens; with none, every key is read from the store."""
        spec = namespace.spec
        self._namespace = namespace
        self._capacity = max_bytes // spec.read_nbytes
        self._table = np.empty((self._capacity, spec.tokens, spec.hidden_size), spec.numpy_dtype)
        self._keys: list[str | None] = [None] * self._capacity  # of each row
        self._rows: dict[str, int] = {}
        self._next = 0  # row to be written next: the one written longest ago
        self._version: int | None = None  # of the store that the rows are from
        self._turn = threading.Lock()
        self._asked = self._read = self._missing = 0  # keys: in all, of the store, and of these not there

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the encoder that made the tokens."""
        return self._namespace.fingerprint

    @property
    def spec(self) -> TokenSpec:
        """Shape and type of an item's tokens."""
        return self._namespace.spec

    @property
    def alive(self) -> bool:
        """False where the store cannot be read now."""
        return self._namespace.alive

    def counts(self) -> StoreCounts:
        """Returns the counters; any thread may ask for them."""
        asked, read, missing = self._asked, self._read, self._missing
        return StoreCounts(asked - read, read - missing, missing, len(self._rows))

    def __len__(self) -> int:
        """Counts the keys whose tokens are here."""
        return len(self._rows)

    def read(self, keys: Sequence[str]) -> StoredTokens:
        """Reads the tokens of those keys that are stored; raises as `TokenNamespace.read`."""
        if not self._capacity:
            stored = self._namespace.read(keys)
            self._count(len(keys), len(keys), len(keys) - len(stored.places))
            return stored
        version = self._namespace.version()
        with self._turn:
            if version != self._version:
                self._forget(version)
            find = self._rows.get
            rows = np.fromiter((find(key, -1) for key in keys), np.int64, len(keys))
            # [keys, k, hidden]; where there is no row yet, that of any other
            tokens = self._table.take(rows, axis=0, mode="wrap")
        absent = np.flatnonzero(rows < 0)
        places = np.arange(len(keys))
        if len(absent):
            asked = [keys[place] for place in absent.tolist()]
            stored = self._namespace.read(asked)
            tokens[absent[stored.places]] = stored.tokens
            found = zip(stored.places.tolist(), stored.tokens, strict=True)
            self._keep({asked[place]: rows for place, rows in found}, version)
            if len(stored.places) < len(absent):
                places = np.delete(places, np.delete(absent, stored.places))
                tokens = tokens[places]
        self._count(len(keys), len(absent), len(keys) - len(places))
        tokens.setflags(write=False)
        return StoredTokens(tokens, places)

    def _count(self, asked: int, read: int, missing: int) -> None:
        with self._turn:
            self._asked += asked
            self._read += read
            self._missing += missing

    def put(self, entries: Sequence[TokenEntry]) -> None:
        """Stores tokens of keys that had none, or keeps them here until the next write where the store is only read.

        What others stored meanwhile stays: it may be newer. Raises as `TokenNamespace.put_many`.
        """
        if self._namespace.writable:
            self._namespace.put_many(entries, replace=False)
        elif self._capacity:
            version = self._namespace.version()
            stored = set(self._namespace.read([entry.key for entry in entries]).places.tolist())
            fresh = {
                entry.key: self.spec.as_read(entry.tokens[None])[0]
                for place, entry in enumerate(entries)
                if place not in stored
            }
            with self._turn:
                if version != self._version:
                    self._forget(version)
            self._keep(fresh, version)

    def _forget(self, version: int) -> None:
        self._rows.clear()
        self._next, self._version = 0, version

    def _keep(self, fresh: Mapping[str, NDArray[np.floating]], version: int) -> None:
        """Writes tokens [k, hidden] by key over the oldest rows, unless the store was written to since `version`."""
        with self._turn:
            if version == self._version and self._namespace.version() == version:
                self._write(fresh)

    def _write(self, fresh: Mapping[str, NDArray[np.floating]]) -> None:
        """Writes tokens [k, hidden] by key over the oldest rows; those that are here stay."""
        kept = list(fresh)[-self._capacity :]
        kept = [key for key in kept if key not in self._rows]  # another thread may have read them too
        rows = (self._next + np.arange(len(kept))) % self._capacity
        for key, row in zip(kept, rows.tolist(), strict=True):
            self._drop(row)
            self._keys[row], self._rows[key] = key, row
        if kept:
            self._table[rows] = [fresh[key] for key in kept]
        self._next = (self._next + len(kept)) % self._capacity

    def _drop(self, row: int) -> None:
        key = self._keys[row]
        if key is not None and self._rows.get(key) == row:
            del self._rows[key]
