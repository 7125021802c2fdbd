"""`OpenFile`: one file of LMDB that is open, with the handles of its databases."""

import errno
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import lmdb

from rankport.protos.errors import StoreError
from rankport.protos.reasons import reason_of
from rankport.runtime.store.lmdb_store import causes
from rankport.runtime.store.lmdb_store.data_file import LOCK, DataFile

Transaction: TypeAlias = "lmdb.Transaction[memoryview]"  # generic in lmdb's stubs only
Database: TypeAlias = Any  # lmdb exports no name for the type of its database handles

_log = logging.getLogger(__name__)
_MAX_READERS = 1024  # read transactions at one time, over all processes
_LOCK_BYTES = 128 + 64 * _MAX_READERS  # as LMDB sizes lock.mdb for as many
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Directory to open, and how."""

    path: Path
    read_only: bool
    frozen: bool  # read without a lock, so nobody may write
    map_bytes: int  # where the map starts
    max_dbs: int
    follow: bool  # write on to another store that comes into its place, where this is written to
    swap_s: float  # that another store may take to come into its place; until then what was open is read


@dataclass(slots=True)
class OpenFile:
    """File of an environment. Not guarded against threads: its owner is."""

    path: Path
    env: lmdb.Environment
    data: DataFile
    frozen_at: int | None  # transaction that it was opened at, after which none may come
    handles: dict[bytes, Database] = field(default_factory=dict)
    whole: bool = True  # False once it is closed: then nothing of it may be read

    @classmethod
    def open(cls, opening: Opening) -> "OpenFile":
        """Opens the file. Raises `StoreError` where LMDB cannot, or it has fewer bytes than its pages take."""
        if not opening.frozen:
            _allocate_lock(opening.path)
        try:
            env = lmdb.open(
                os.fsencode(opening.path),  # a name need not be text
                map_size=opening.map_bytes,
                readonly=opening.read_only,
                create=False,  # no directory: one that went stays away
                lock=not opening.frozen,
                max_readers=_MAX_READERS,
                max_dbs=opening.max_dbs,
            )
        except lmdb.Error as error:
            raise causes.open_error(opening.path, error, read_only=opening.read_only) from error
        try:
            return cls._checked(env, opening)
        except lmdb.Error as error:
            env.close()
            raise causes.failure(opening.path, error, read_only=opening.read_only) from error
        except BaseException:
            env.close()
            raise

    @classmethod
    def _checked(cls, env: lmdb.Environment, opening: Opening) -> "OpenFile":
        data, about = DataFile(opening.path), env.info()
        data.check_whole(about["last_pgno"] + 1 if about["last_txnid"] else 0, env.stat()["psize"])
        if not opening.frozen:
            _warn_without_lock(opening)
            # A process killed in a read transaction would pin its pages for ever.
            env.reader_check()
        return cls(opening.path, env, data, about["last_txnid"] if opening.frozen else None)

    def open_db(self, name: bytes, txn: "Transaction | None" = None) -> None:
        """Opens an existing database, alone or in a write transaction. Raises `lmdb.Error` if there is none."""
        if txn is None:
            self.env.set_mapsize(0)
        self.handles[name] = self.env.open_db(name, txn=txn, create=False)

    def get(self, name: bytes, key: bytes) -> bytes | None:
        """Reads one value of an open database, in a transaction of its own."""
        with self.env.begin(buffers=False) as txn:
            value = txn.get(key, db=self.handles[name])
            return None if value is None else bytes(value)

    def check_frozen(self, txn: Transaction) -> None:
        """Raises `StoreError` where a frozen file was written to: its readers have no lock against that."""
        if self.frozen_at is not None and txn.id() != self.frozen_at:
            raise StoreError(
                f"token store {self.path} is open frozen and was written to: write to a copy and rename that into its "
                "place, or open it without frozen (--frozen)"
            )

    def close(self) -> None:
        """Frees the map. Closing twice does nothing."""
        self.whole = False
        self.env.close()


def _warn_without_lock(opening: Opening) -> None:
    """Says so where LMDB did without a lock of its own accord: on a volume that cannot be written."""
    if opening.read_only and not os.access(opening.path / LOCK, os.W_OK):
        _log.warning(
            "token store %s is on a volume that cannot be written and is read without a lock: nobody may write to it "
            "from elsewhere meanwhile; frozen (--frozen) notices if one does",
            opening.path,
        )


def _allocate_lock(path: Path) -> None:
    """Gives a new lock file its room. LMDB would map one without any, and SIGBUS end the process on a full disk.

    Raises `StoreError` where there is no room. What else keeps it from being written is told by LMDB.
    """
    try:
        with (path / LOCK).open("ab") as lock:
            if hasattr(os, "posix_fallocate") and not os.fstat(lock.fileno()).st_size:
                os.posix_fallocate(lock.fileno(), 0, _LOCK_BYTES)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreError(
                f"token store {path} cannot be opened: there is no room for lock.mdb: {reason_of(error)}"
            ) from error
