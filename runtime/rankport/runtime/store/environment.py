"""Environment of LMDB whose map grows by itself while threads and processes read it.

Owns transactions, the map size and the translation of LMDB's errors; it knows nothing of tokens.

LMDB forbids changing the map while a transaction of the same process is open: a reader would lose the memory
it reads. So every transaction here holds a share of a gate, and a resize waits until it is alone.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import lmdb

from rankport.protos.errors import StoreError
from rankport.protos.own_process import OwnProcess

T = TypeVar("T")
Transaction: TypeAlias = "lmdb.Transaction[memoryview]"  # generic in lmdb's stubs only
Database: TypeAlias = Any  # lmdb exports no name for the type of its database handles

_MAX_READERS = 1024  # read transactions at one time, over all processes


class LmdbEnvironment:
    """Environment opened once in this process. Threads may share it; a transaction stays in its thread.

    Do not open one transaction inside another: a resize between the two would wait for ever.
    """

    def __init__(self, path: Path, env: lmdb.Environment, read_only: bool) -> None:
        self.read_only = read_only
        self._path = path
        self._env = env
        self._process = OwnProcess()
        self._changed = threading.Condition()
        self._open_transactions = 0
        self._resizing = False
        self._closed = False

    @classmethod
    def open(cls, path: Path, *, read_only: bool, map_bytes: int, max_dbs: int) -> "LmdbEnvironment":
        """Opens the directory `path`, which must exist; `map_bytes` is where the map starts.

        Raises:
            StoreError: LMDB cannot open it, or this process has it open already.
        """
        try:
            env = lmdb.open(
                str(path),
                map_size=map_bytes,
                readonly=read_only,
                create=not read_only,
                max_readers=_MAX_READERS,
                max_dbs=max_dbs,
            )
            # A process killed in a read transaction would pin its pages for ever.
            env.reader_check()
        except lmdb.Error as error:
            raise _open_error(path, error) from error
        return cls(path, env, read_only)

    def is_empty(self) -> bool:
        """Says whether no database was ever made in it."""
        with self.read() as txn:
            return txn.stat()["entries"] == 0

    def version(self) -> int:
        """Returns a number that differs after every write, of whatever process."""
        with self.read() as txn:
            return txn.id()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Opens a read transaction. Its memoryviews are gone when it ends: copy what is kept.

        Raises:
            StoreError: the environment is closed, or LMDB failed.
        """
        with self._translated():
            txn = self._begin(write=False)
            try:
                yield txn
            finally:
                txn.abort()
                self._leave()

    def write(self, body: Callable[[Transaction], T]) -> T:
        """Runs `body` in a write transaction, from the start again in a larger map if this one is full.

        Raises:
            StoreError: the environment is read-only or closed, or LMDB failed; nothing of `body` is stored.
        """
        if self.read_only:
            raise StoreError(
                f"token store {self._path} is open read-only: open it without read_only to write"
            )
        with self._translated():
            while True:
                txn = self._begin(write=True)
                map_bytes = self._env.info()["map_size"]
                try:
                    with txn:
                        return body(txn)
                except lmdb.MapFullError:
                    pass
                finally:
                    self._leave()
                self._grow(map_bytes)

    def open_db(self, name: bytes) -> Database:
        """Returns the handle of an existing database.

        Raises:
            StoreError: there is none of that name.
        """
        if not self.read_only:
            return self.write(lambda txn: self._env.open_db(name, txn=txn, create=False))
        # Without a transaction of ours lmdb makes its own, which must be the only one opening a handle.
        with self._translated(), self._alone():
            self._env.set_mapsize(0)
            return self._env.open_db(name, create=False)

    def create_db(self, name: bytes, txn: Transaction) -> Database:
        """Returns the handle of a database, made in the write transaction `txn` if there is none."""
        return self._env.open_db(name, txn=txn, create=True)

    def check_process(self) -> None:
        """Raises `StoreError` in a forked child, before a lock that another thread may have held at the fork."""
        if self._process.forked:
            raise StoreError(
                f"token store {self._path} was opened before a fork: open it in the child process"
            )

    def close(self) -> None:
        """Waits for open transactions and frees the map. Closing twice, or in a forked child, does nothing."""
        if self._closed or self._process.forked:
            return
        with self._alone():
            self._closed = True
            self._env.close()

    def _begin(self, *, write: bool) -> Transaction:
        while True:
            self._enter()
            try:
                return self._env.begin(write=write, buffers=True)
            except lmdb.MapResizedError:
                self._leave()
                with self._alone():
                    self._env.set_mapsize(0)  # another process grew the map: take over its size
            except BaseException:
                self._leave()
                raise

    def _enter(self) -> None:
        self.check_process()
        with self._changed:
            self._changed.wait_for(lambda: not self._resizing)
            self._check_open()
            self._open_transactions += 1

    def _leave(self) -> None:
        with self._changed:
            self._open_transactions -= 1
            self._changed.notify_all()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.check_process()
        with self._changed:
            self._changed.wait_for(lambda: not self._resizing)
            self._resizing = True
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._open_transactions == 0)
            self._check_open()
            yield
        finally:
            with self._changed:
                self._resizing = False
                self._changed.notify_all()

    def _grow(self, full_bytes: int) -> None:
        with self._alone():
            # Another thread may have met the same full map and grown it already.
            if self._env.info()["map_size"] <= full_bytes:
                self._env.set_mapsize(2 * full_bytes)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"token store {self._path} is closed: open it again")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            raise StoreError(f"token store {self._path}: LMDB failed: {error}") from error


def _open_error(path: Path, error: lmdb.Error) -> StoreError:
    if "already open in this process" in str(error):
        return StoreError(
            f"token store {path} is already open in this process, and LMDB allows that once: "
            "pass the open TokenStore object around, or close it first"
        )
    return StoreError(f"token store {path} cannot be opened: {error}")
