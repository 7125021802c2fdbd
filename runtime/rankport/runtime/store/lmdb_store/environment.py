"""Environment of LMDB whose map grows by itself while threads and processes read it.

Owns transactions and the map size. It knows nothing of tokens; which file is open is `current_file`'s, `causes`
explains errors.

Every transaction here holds a share of a gate, and a resize or reopening waits until it is alone.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import lmdb

from rankport.protos.errors import StoreError
from rankport.protos.processes.own_process import OwnProcess
from rankport.runtime.store.lmdb_store import causes
from rankport.runtime.store.lmdb_store.current_file import Accept, CurrentFile
from rankport.runtime.store.lmdb_store.gate import Gate
from rankport.runtime.store.lmdb_store.open_file import Database, OpenFile, Opening, Transaction
from rankport.runtime.store.lmdb_store.pages import DamagedPageError, check_pages
from rankport.runtime.store.watched_file import FileState

__all__ = ["Database", "LmdbEnvironment", "Opening", "Transaction"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


class LmdbEnvironment:
    """Environment opened once in this process. Threads may share it; a transaction stays in its thread.

    Do not open one transaction inside another: a resize between the two would wait for ever.
    """

    def __init__(self, file: OpenFile, opening: Opening, accept: Accept) -> None:
        self.read_only = opening.read_only
        self._path = opening.path
        self._opening = opening
        self._process = OwnProcess()
        self._gate = Gate(self._check_open)
        self._current = CurrentFile(file, opening, accept, self._gate)
        self._closed = False
        self._trouble = ""  # as it was logged last

    @classmethod
    def open(cls, opening: Opening, accept: Accept) -> "LmdbEnvironment":
        """Opens the directory, which must exist. `accept` checks a file that later stands in its place.

        Raises:
            StoreError: LMDB cannot open it, it is cut short, or this process has it open already.
        """
        return cls(OpenFile.open(opening), opening, accept)

    @property
    def generation(self) -> int:
        """Number of the files that were open here before this one."""
        return self._current.generation

    def is_empty(self) -> bool:
        """Says whether no database was ever made in it."""
        with self.read() as txn:
            return txn.stat()["entries"] == 0

    def version(self) -> int:
        """Returns a number that differs after every write, of whatever process, and for every other file."""
        with self.read() as txn:
            return hash((self.generation, self._file.data.written_ns, txn.id()))

    @property
    def alive(self) -> bool:
        """False where no read would succeed now. Logs when that changes."""
        try:
            with self.read():
                trouble = ""
        except StoreError as error:
            trouble = str(error)
        before, self._trouble = self._trouble, trouble
        if trouble and not before and not self._closed:
            _log.error("%s", trouble)
        elif before and not trouble:
            _log.info("token store %s can be read again", self._path)
        return not trouble

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Opens a read transaction. Its memoryviews are gone when it ends: copy what is kept.

        Raises:
            StoreError: the environment is closed, or LMDB failed.
        """
        with self._translated(self._explain):
            txn = self._begin(write=False)
            try:
                self._file.check_frozen(txn)
                yield txn
            finally:
                txn.abort()
                self._gate.leave()

    def write(self, body: Callable[[Transaction], T]) -> T:
        """Runs `body` in a write transaction, from the start again in a larger map if this one is full.

        Raises:
            StoreError: the environment is read-only or closed, or LMDB failed; nothing of `body` is stored.
        """
        if self.read_only:
            raise StoreError(
                f"token store {self._path} is open read-only: open it without read_only to write"
            )
        with self._translated(causes.write_failure):
            while True:
                txn = self._begin(write=True)
                map_bytes = self._file.env.info()["map_size"]
                try:
                    with txn:
                        return body(txn)
                except lmdb.MapFullError:
                    pass
                finally:
                    self._gate.leave()
                self._grow(map_bytes)

    def copy_compacted(self, directory: Path, then: Callable[[Transaction], None]) -> None:
        """Copies what is stored into an empty directory, then does more, while nobody can write; raises as `write`."""

        def body(txn: Transaction) -> None:
            self._file.env.copy(str(directory), compact=True)
            then(txn)

        self.write(body)

    def check_pages(self) -> None:
        """Reads all pages, without the map; raises `StoreError` where one is damaged."""
        checked = False
        while not checked:
            with self.read() as txn:
                try:
                    checked = check_pages(self._path, txn.id())
                except (DamagedPageError, OSError) as error:
                    raise causes.damaged(self._path, str(error)) from error

    def open_db(self, name: bytes) -> None:
        """Opens an existing database, whose handle `db` gives from then on.

        Raises:
            StoreError: there is none of that name.
        """
        if self.read_only:
            # Without a transaction of ours lmdb makes its own, which must be the only one opening a handle.
            with self._translated(self._explain), self._alone():
                self._file.open_db(name)
        else:
            self.write(lambda txn: self._file.open_db(name, txn))

    def db(self, name: bytes) -> Database:
        """Gives the handle of an open database: within a transaction, for another file has others."""
        return self._file.handles[name]

    def create_db(self, name: bytes, txn: Transaction) -> Database:
        """Returns the handle, in the write transaction `txn` alone, of a database; made if there is none."""
        return self._file.env.open_db(name, txn=txn, create=True)

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
        with suppress(StoreError), self._alone():  # another thread may close it first
            self._closed = True
            self._file.close()

    @property
    def _file(self) -> OpenFile:
        return self._current.file

    def _begin(self, *, write: bool) -> Transaction:
        while True:
            self.check_process()
            self._check_open()
            self._current.look(write=write)
            self._gate.enter()
            try:
                txn = self._file.env.begin(write=write, buffers=True)
            except lmdb.MapResizedError:
                self._gate.leave()
                with self._alone():
                    self._file.env.set_mapsize(0)  # another process grew the map: take over its size
                continue
            except BaseException:
                self._gate.leave()
                raise
            state = self._file.data.look() if write else FileState.SAME  # the lock may have been waited for
            if state is FileState.SAME:
                return txn
            txn.abort()
            self._gate.leave()
            if not (self._opening.follow and state is FileState.REPLACED):
                raise causes.not_in_place(self._path, state)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.check_process()
        with self._gate.alone():
            yield

    def _grow(self, full_bytes: int) -> None:
        with self._alone():
            # Another thread may have met the same full map and grown it already.
            if self._file.env.info()["map_size"] <= full_bytes:
                self._file.env.set_mapsize(2 * full_bytes)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"token store {self._path} is closed: open it again")

    @contextmanager
    def _translated(self, explain: Callable[[Path, lmdb.Error], StoreError]) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            raise explain(self._path, error) from error

    def _explain(self, path: Path, error: lmdb.Error) -> StoreError:
        return causes.failure(path, error, read_only=self.read_only)
