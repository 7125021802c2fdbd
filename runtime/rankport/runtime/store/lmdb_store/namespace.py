"""`LmdbNamespace`: batched access to the tokens that one encoder made.

Owns which transaction reads or writes what; `records` has the bytes, `LmdbStore` makes namespaces.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import numpy as np

from rankport.protos.errors import StoreError
from rankport.runtime.store.entries import EntryInfo, Fence, StoredTokens, TokenEntry, Written, check_in_time
from rankport.runtime.store.lmdb_store.environment import Database, LmdbEnvironment, Transaction
from rankport.runtime.store.record_namespace import RecordNamespace
from rankport.runtime.store.records import (
    CorruptValueError,
    ValueHeader,
    read_tokens,
    storage_key,
    storage_keys,
    stored_key,
    write_mark,
)
from rankport.runtime.store.token_spec import TokenSpec

_KEYS_PER_PAGE = 1000
_NO_KEY = b"\x00"

Visit = Callable[[int, memoryview, ValueHeader], None]


class LmdbNamespace(RecordNamespace):
    """Item key -> tokens of one encoder. Any thread may call it while its store is open."""

    def __init__(self, env: LmdbEnvironment, database: bytes, fingerprint: str, spec: TokenSpec) -> None:
        super().__init__(fingerprint, spec)
        self._env = env
        self._database = database

    def read(self, keys: Sequence[str], *, skip_corrupt: bool = False) -> StoredTokens:
        """Reads the tokens of those keys that are there: one transaction, one copy.

        Raises:
            InvalidRequest: something is not an item key.
            StoreError: a value is corrupt (the message names its key) and not to be skipped, or the store is closed.
        """
        names = storage_keys(keys)
        with self._env.read() as txn:
            db = self._db
            found = [txn.get(name, None, db) for name in names]
            places = [place for place, value in enumerate(found) if value is not None]
            values = [value for value in found if value is not None]
            if len(places) < len(names):
                names = [names[place] for place in places]
            tokens = read_tokens(names, values, self.spec)
        if tokens is None:
            return self._read_apart(keys, skip_corrupt)
        return StoredTokens(tokens, np.array(places, np.int64))

    def info_many(self, keys: Sequence[str]) -> list[EntryInfo | None]:
        """Returns content hash and write time of each key, None where it is absent; raises as `get_many`."""
        infos: list[EntryInfo | None] = [None] * len(keys)

        def visit(index: int, value: memoryview, header: ValueHeader) -> None:
            infos[index] = EntryInfo(
                header.content_hash, datetime.fromtimestamp(header.written_us / 1e6, UTC)
            )

        self._visit(keys, visit)
        return infos

    def content_hashes(self, keys: Sequence[str]) -> list[bytes | None]:
        """Returns the content hash of each key, None where it is absent *or its value is corrupt*.

        So an encode job writes a corrupt value anew instead of trusting its hash.

        Raises:
            InvalidRequest: something is not an item key.
            StoreError: the store is closed.
        """
        hashes: list[bytes | None] = [None] * len(keys)

        def visit(index: int, value: memoryview, header: ValueHeader) -> None:
            hashes[index] = header.content_hash

        self._visit(keys, visit, skip_corrupt=True)
        return hashes

    def put_many(
        self, entries: Sequence[TokenEntry], *, fence: Fence | None = None, replace: bool = True
    ) -> None:
        """Stores all entries, or none, in one durable transaction; the last of equal keys wins.

        Those that do not `replace` leave what is there.

        A `fence` is looked at while nobody else can write: who writes after it finds this done, or sees it fail.

        Raises:
            InvalidRequest: something is not an item key, or an entry does not fit the namespace's spec.
            StoreError: the store is read-only or closed, or LMDB failed (a full disk).
            LateWriteError: the `fence` has passed.
        """
        written_us = time.time_ns() // 1000
        pairs = [(storage_key(entry.key), self._pack(entry, written_us)) for entry in entries]

        def body(txn: Transaction) -> None:
            check_in_time((entry.key for entry in entries), fence)
            db = self._db
            for name, value in pairs:
                txn.put(name, value, overwrite=replace, db=db)

        self._env.write(body)

    def delete_many(self, keys: Sequence[str], *, fence: Fence | None = None) -> int:
        """Deletes the keys in one transaction; returns how many of them were there. A `fence` is as for `put_many`.

        Raises:
            InvalidRequest: something is not an item key.
            StoreError: the store is read-only or closed.
            LateWriteError: the `fence` has passed.
        """
        names = [storage_key(key) for key in keys]

        def body(txn: Transaction) -> int:
            check_in_time(keys, fence)
            return sum(txn.delete(name, db=self._db) for name in names)

        return self._env.write(body)

    @property
    def generation(self) -> int:
        """Number of the stores that were read in this place before."""
        return self._env.generation

    @property
    def writable(self) -> bool:
        """False where the store was opened to be read."""
        return not self._env.read_only

    @property
    def alive(self) -> bool:
        """False where no read would succeed now."""
        return self._env.alive and self._is_there()

    def __len__(self) -> int:
        with self._env.read() as txn:
            return txn.stat(self._db)["entries"]

    def version(self) -> int:
        """Returns a number that differs after every write to the store."""
        return self._env.version()

    def keys(self) -> Iterator[str]:
        """Yields all keys in no promised order; writes during the iteration may or may not show.

        Raises:
            StoreError: the value of a long key is corrupt, or the store is closed.
        """
        return (entry.key for page in self._walk(skip_corrupt=False) for entry in page)

    def pages(self) -> Iterator[list[Written]]:
        """Yields the keys with their marks, some at a time; otherwise as `keys`, but without what is corrupt."""
        return self._walk(skip_corrupt=True)

    @property
    def _db(self) -> Database:
        return self._env.db(self._database)

    def _is_there(self) -> bool:
        try:
            with self._env.read() as txn:
                txn.get(_NO_KEY, db=self._db)
        except StoreError:  # the tokens were dropped
            return False
        return True

    def _walk(self, *, skip_corrupt: bool) -> Iterator[list[Written]]:
        after: bytes | None = None
        while True:
            page, after = self._page(after, skip_corrupt)
            if after is None:
                return
            yield page

    def _page(self, after: bytes | None, skip_corrupt: bool) -> tuple[list[Written], bytes | None]:
        """Returns the next entries, and where they end; None at the end of all."""
        page: list[Written] = []
        last, seen = None, 0
        # One short transaction a page: a long one would keep the writer from reusing pages.
        with self._env.read() as txn, txn.cursor(self._db) as cursor:
            more = cursor.first() if after is None else cursor.set_range(after)
            if more and bytes(cursor.key()) == after:
                more = cursor.next()
            while more and seen < _KEYS_PER_PAGE:
                last, seen = bytes(cursor.key()), seen + 1
                try:
                    page.append(
                        Written(stored_key(last, cursor.value(), self.spec), write_mark(cursor.value()))
                    )
                except CorruptValueError as error:
                    if not skip_corrupt:
                        raise self.corrupt(last.hex(), error) from error
                more = cursor.next()
        return page, last

    def _read_apart(self, keys: Sequence[str], skip_corrupt: bool) -> StoredTokens:
        """Reads values one by one: some are of long keys, or corrupt."""
        size = self.spec.nbytes
        block = bytearray(len(keys) * size)
        places: list[int] = []

        def visit(index: int, value: memoryview, header: ValueHeader) -> None:
            start = len(places) * size
            block[start : start + size] = value[header.payload_offset :]
            places.append(index)

        self._visit(keys, visit, skip_corrupt=skip_corrupt)
        flat = np.frombuffer(bytes(block[: len(places) * size]), np.uint8)
        tokens = self.spec.unpack(flat.reshape(len(places), size))
        tokens.setflags(write=False)
        return StoredTokens(tokens, np.array(places, np.int64))

    def _visit(self, keys: Sequence[str], visit: Visit, *, skip_corrupt: bool = False) -> None:
        """Calls `visit` with each stored key's index, value (gone when the call returns) and header."""
        names = [storage_key(key) for key in keys]
        with self._env.read() as txn:
            for index, name in enumerate(names):
                value = txn.get(name, db=self._db)
                if value is None:
                    continue
                header = self._header(keys[index], name, value, skip_corrupt=skip_corrupt)
                if header is not None:
                    visit(index, value, header)
