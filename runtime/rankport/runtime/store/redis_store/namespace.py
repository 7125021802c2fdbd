"""`RedisNamespace`: batched access to the tokens that one encoder made.

Owns which commands read or write what; `records` has the bytes of values, `RedisStore` makes namespaces.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import numpy as np

from rankport.protos.errors import StoreError
from rankport.runtime.store.entries import EntryInfo, Fence, StoredTokens, TokenEntry, Written
from rankport.runtime.store.record_namespace import RecordNamespace
from rankport.runtime.store.records import (
    CorruptValueError,
    ValueHeader,
    read_tokens,
    storage_key,
    storage_keys,
    stored_key,
)
from rankport.runtime.store.redis_store.batches import Batches
from rankport.runtime.store.redis_store.connection import Command, RedisConnection
from rankport.runtime.store.redis_store.fences import check_none_late, fenced, times_until
from rankport.runtime.store.redis_store.key_names import KeyNames
from rankport.runtime.store.redis_store.liveness import Liveness
from rankport.runtime.store.token_spec import TokenSpec

_KEYS_PER_COMMAND = 500
_MARK_BYTES = (16, 39)  # of a value, the last one included

Visit = Callable[[int, memoryview, ValueHeader], None]


class RedisNamespace(RecordNamespace):
    """Item key -> tokens of one encoder. Any thread may call it while its store is open."""

    def __init__(
        self,
        connection: RedisConnection,
        names: KeyNames,
        fingerprint: str,
        spec: TokenSpec,
        *,
        read_only: bool,
    ) -> None:
        super().__init__(fingerprint, spec)
        self._connection, self._names, self._read_only = connection, names, read_only
        self._batches = Batches(connection, names, fingerprint, read_only=read_only)
        self._liveness = Liveness(self._trouble, connection.location.told)

    def read(self, keys: Sequence[str], *, skip_corrupt: bool = False) -> StoredTokens:
        """Reads the tokens of those keys that are there; all of one moment, unless from a cluster.

        Raises:
            InvalidRequest: something is not an item key.
            StoreError: a value is corrupt (the message names its key) and not to be skipped, Redis cannot be read, or
                the encoder's tokens are gone from it.
        """
        names = storage_keys(keys)
        found = self._values(names)
        places = [place for place, value in enumerate(found) if value is not None]
        values = [memoryview(value) for value in found if value is not None]
        if names and not values:
            self._check_there()
        tokens = read_tokens([names[place] for place in places], values, self.spec)
        if tokens is None:
            return self._read_apart(keys, names, found, skip_corrupt)
        return StoredTokens(tokens, np.array(places, np.int64))

    def info_many(self, keys: Sequence[str]) -> list[EntryInfo | None]:
        """Returns content hash and write time of each key, None where it is absent; raises as `read`."""
        infos: list[EntryInfo | None] = [None] * len(keys)

        def visit(index: int, value: memoryview, header: ValueHeader) -> None:
            written_at = datetime.fromtimestamp(header.written_us / 1e6, UTC)
            infos[index] = EntryInfo(header.content_hash, written_at)

        names = storage_keys(keys)
        self._visit(keys, names, self._values(names), visit)
        return infos

    def content_hashes(self, keys: Sequence[str]) -> list[bytes | None]:
        """Returns the content hash of each key, None where it is absent *or its value is corrupt*.

        Raises:
            InvalidRequest: something is not an item key.
            StoreError: Redis cannot be read, or the store is closed.
        """
        self._batches.settle()
        hashes: list[bytes | None] = [None] * len(keys)

        def visit(index: int, value: memoryview, header: ValueHeader) -> None:
            hashes[index] = header.content_hash

        names = storage_keys(keys)
        self._visit(keys, names, self._values(names), visit, skip_corrupt=True)
        return hashes

    def fence(self, keys: Sequence[str], seconds: float) -> Fence:
        """Makes the fence of a write that must come within so many seconds from now; raises as `put_many`."""
        names = self._names.items(self.fingerprint, storage_keys(keys))
        return dict(zip(keys, times_until(self._connection, names, seconds), strict=True))

    def put_many(
        self, entries: Sequence[TokenEntry], *, fence: Fence | None = None, replace: bool = True
    ) -> None:
        """Stores all entries, or none unless in a cluster; the last of equal keys wins. As durable as Redis is.

        Those that do not `replace` leave what is there.

        Raises:
            InvalidRequest: something is not an item key, or an entry does not fit the namespace's spec.
            StoreError: Redis cannot be written to, lost batches that it had confirmed, or lost the namespace.
            LateWriteError: the `fence` of a key has passed; those of others are stored.
        """
        self._check_writable()
        written_us = time.time_ns() // 1000
        values = [self._pack(entry, written_us) for entry in entries]
        keys = self._names.items(self.fingerprint, [storage_key(entry.key) for entry in entries])
        ttl_ms = self._connection.location.ttl_ms
        how: Command = (*(() if ttl_ms is None else ("PX", ttl_ms)), *(() if replace else ("NX",)))
        sets: list[Command] = [("SET", key, value, *how) for key, value in zip(keys, values, strict=True)]
        self._write_items(sets, [entry.key for entry in entries], fence)

    def delete_many(self, keys: Sequence[str], *, fence: Fence | None = None) -> int:
        """Deletes the keys; returns how many of them were there.

        Raises:
            InvalidRequest: something is not an item key.
            StoreError, LateWriteError: as `put_many`.
        """
        self._check_writable()
        names = self._names.items(self.fingerprint, [storage_key(key) for key in keys])
        return sum(self._write_items([("DEL", name) for name in names], keys, fence))

    def prolong(self, keys: Sequence[str]) -> None:
        """Has those keys that are there live on for the time of the store's URL from now; raises as `put_many`."""
        self._check_writable()
        ttl_ms = self._connection.location.ttl_ms
        if ttl_ms is not None:
            names = self._names.items(self.fingerprint, storage_keys(keys))
            self._connection.run([("PEXPIRE", name, ttl_ms) for name in names])

    def pages(self) -> Iterator[list[Written]]:
        """Yields the keys with their marks, some at a time, in no promised order, without what is corrupt.

        Keeps all keys in memory, to tell those that Redis yields twice.

        Raises:
            StoreError: Redis cannot be read.
        """
        for found in self._found():
            if page := self._page(found):
                yield page

    def version(self) -> int:
        """Returns a number that differs after every write to the store.

        Asks Redis at most once in `VERSION_STALE_S`: until then it may miss what other processes write.
        """
        return self._batches.version()

    @property
    def writable(self) -> bool:
        """False where the store was opened to be read."""
        return not self._read_only

    @property
    def alive(self) -> bool:
        """False where no read would succeed now, as of a second ago, or of the last answer of one that is silent."""
        return self._connection.open and self._liveness.good()

    def __len__(self) -> int:
        """Counts the keys by a scan of the database, without their values; those of corrupt values too."""
        return sum(map(len, self._found()))

    def _found(self) -> Iterator[list[bytes]]:
        """Yields the names of all items, each once."""
        seen: set[bytes] = set()
        for found in self._connection.scan(self._names.pattern(self.fingerprint)):
            fresh = list(dict.fromkeys(key for key in found if key not in seen))
            seen.update(fresh)
            yield fresh

    def _trouble(self) -> str:
        try:
            there = self._connection.look(("HEXISTS", self._names.meta, self.fingerprint))
        except StoreError as error:
            return str(error)
        return "" if there else str(self._batches.gone())

    def _check_there(self) -> None:
        [there] = self._connection.run([("HEXISTS", self._names.meta, self.fingerprint)])
        if not there:
            raise self._batches.gone()

    def _check_writable(self) -> None:
        if self._read_only:
            raise StoreError(
                f"token store {self._connection.location.name} is open to be read: open it to write"
            )

    def _write_items(self, commands: list[Command], keys: Sequence[str], fence: Fence | None) -> list[int]:
        """Writes items by a command each, in the order of their keys; raises as `put_many`."""
        if fence is not None:
            commands = [fenced(command, fence[key]) for command, key in zip(commands, keys, strict=True)]
        replies = self._batches.write(commands)
        if fence is not None:
            check_none_late(replies)
        return replies

    def _values(self, names: Sequence[bytes]) -> list[bytes | None]:
        keys = self._names.items(self.fingerprint, names)
        if self._connection.clustered:
            return self._connection.run([("GET", key) for key in keys])
        starts = range(0, len(keys), _KEYS_PER_COMMAND)
        replies = self._connection.run(
            [("MGET", *keys[start : start + _KEYS_PER_COMMAND]) for start in starts]
        )
        return [value for values in replies for value in values]

    def _page(self, keys: Sequence[bytes]) -> list[Written]:
        names = [self._names.storage_key(self.fingerprint, key) for key in keys]
        long = [place for place, name in enumerate(names) if name[0]]
        marks = self._connection.run([("GETRANGE", key, *_MARK_BYTES) for key in keys])
        values = self._connection.run([("GET", keys[place]) for place in long])
        whole = dict(zip(long, values, strict=True))
        page = []
        for place, (name, mark) in enumerate(zip(names, marks, strict=True)):
            try:
                key = stored_key(name, memoryview(whole.get(place) or b""), self.spec)
            except CorruptValueError:
                continue
            if mark:  # else it went since the scan
                page.append(Written(key, mark))
        return page

    def _read_apart(
        self, keys: Sequence[str], names: Sequence[bytes], found: Sequence[bytes | None], skip_corrupt: bool
    ) -> StoredTokens:
        """Reads values one by one: some are of long keys, or corrupt."""
        rows: list[bytes] = []
        places: list[int] = []

        def visit(index: int, value: memoryview, header: ValueHeader) -> None:
            rows.append(bytes(value[header.payload_offset :]))
            places.append(index)

        self._visit(keys, names, found, visit, skip_corrupt=skip_corrupt)
        flat = np.frombuffer(b"".join(rows), np.uint8)
        tokens = self.spec.unpack(flat.reshape(len(places), self.spec.nbytes))
        tokens.setflags(write=False)
        return StoredTokens(tokens, np.array(places, np.int64))

    def _visit(
        self,
        keys: Sequence[str],
        names: Sequence[bytes],
        found: Sequence[bytes | None],
        visit: Visit,
        *,
        skip_corrupt: bool = False,
    ) -> None:
        """Calls `visit` with each stored key's index, value and header."""
        for index, stored in enumerate(found):
            if stored is None:
                continue
            value = memoryview(stored)
            header = self._header(keys[index], names[index], value, skip_corrupt=skip_corrupt)
            if header is not None:
                visit(index, value, header)
