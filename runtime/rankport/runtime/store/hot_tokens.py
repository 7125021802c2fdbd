"""`HotTokens`: the tokens of the keys asked for last, in this process's memory, in front of a namespace.

Owns which rows are kept and when they are stale. A key costs a look-up of a dict here, and in LMDB a walk of its tree
and a checksum. Pages of the table that were never written take no memory.
"""

import threading
from collections.abc import Sequence

import numpy as np

from rankport.runtime.store.namespace import StoredTokens, TokenNamespace


class HotTokens:
    """Reads as its namespace does, whose every write empties it. Any thread may call it."""

    def __init__(self, namespace: TokenNamespace, max_bytes: int) -> None:
        """Keeps at most `max_bytes` of tokens; with none, every key is read from the store."""
        spec = namespace.spec
        self._namespace = namespace
        self._capacity = max_bytes // spec.nbytes
        self._table = np.empty((self._capacity, spec.tokens, spec.hidden_size), spec.numpy_dtype)
        self._keys: list[str | None] = [None] * self._capacity  # of each row
        self._rows: dict[str, int] = {}
        self._next = 0  # row to be written next: the one written longest ago
        self._version: int | None = None  # of the store that the rows are from
        self._turn = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the encoder that made the tokens."""
        return self._namespace.fingerprint

    @property
    def alive(self) -> bool:
        """False where the store cannot be read now."""
        return self._namespace.alive

    def __len__(self) -> int:
        """Counts the keys whose tokens are here."""
        return len(self._rows)

    def read(self, keys: Sequence[str]) -> StoredTokens:
        """Reads the tokens of those keys that are stored; raises as `TokenNamespace.read`."""
        if not self._capacity:
            return self._namespace.read(keys)
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
            self._keep(asked, stored, version)
            if len(stored.places) < len(absent):
                places = np.delete(places, np.delete(absent, stored.places))
                tokens = tokens[places]
        tokens.setflags(write=False)
        return StoredTokens(tokens, places)

    def _forget(self, version: int) -> None:
        self._rows.clear()
        self._next, self._version = 0, version

    def _keep(self, asked: Sequence[str], stored: StoredTokens, version: int) -> None:
        """Writes what was read over the oldest rows, unless the store was written to before it was read."""
        fresh = dict(zip((asked[place] for place in stored.places.tolist()), stored.tokens, strict=True))
        kept = list(fresh)[-self._capacity :]
        with self._turn:
            if version != self._version or self._namespace.version() != version:
                return
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
