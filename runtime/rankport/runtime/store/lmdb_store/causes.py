"""Causes behind LMDB's errors, in words with a way out: LMDB itself gives a number of the system."""

import errno
import os
import shutil
from pathlib import Path

import lmdb

from rankport.protos.errors import StoreError
from rankport.runtime.store.watched_file import FileState

_FULL_BYTES = 2**20  # LMDB tells a write that found too little room as a failed one
_ANEW = "copy it anew (into another directory, then rename that), or encode again"
# A transaction that met a page of another kind is told to be bad by each later read of it.
_DAMAGED = ("MDB_CORRUPTED", "MDB_PAGE_NOTFOUND", "MDB_BAD_TXN")
_FROZEN = "open it frozen (frozen=True, --frozen), which reads without a lock, if nobody writes to it"


def open_error(path: Path, error: lmdb.Error, *, read_only: bool) -> StoreError:
    """Explains why an environment cannot be opened."""
    text = str(error)
    if "already open in this process" in text:
        return StoreError(
            f"token store {path} is already open in this process, and LMDB allows that once: "
            "pass the open TokenStore object around, or close it first"
        )
    if os.strerror(errno.EACCES) in text or os.strerror(errno.EROFS) in text:
        return _permission_error(path, read_only)
    return _shared_error(path, error, read_only) or StoreError(
        f"token store {path} cannot be opened: {_cause(path, text)}"
    )


def _cause(path: Path, text: str) -> str:
    """Words what LMDB tells of a file: without the path, which it repeats, and with the way out where there is one."""
    data = path / "data.mdb"
    if data.is_file() and not data.stat().st_size:
        return f"data.mdb is empty: {_ANEW}"
    if "MDB_INVALID" in text:
        return f"data.mdb is not LMDB's: {_ANEW}"
    return text.removeprefix(f"{path}: ")


def failure(path: Path, error: lmdb.Error, *, read_only: bool) -> StoreError:
    """Explains why a transaction failed."""
    if isinstance(error, lmdb.BadDbiError):
        return StoreError(
            f"token store {path}: the tokens of an encoder that this process reads were dropped: encode them again, or "
            "serve a ranker of another encoder"
        )
    if any(sign in str(error) for sign in _DAMAGED):
        return damaged(path, str(error))
    return _shared_error(path, error, read_only) or StoreError(f"token store {path}: LMDB failed: {error}")


def damaged(path: Path, what: str) -> StoreError:
    """Words the error of a page that is not what was written."""
    return StoreError(f"token store {path}: the pages of data.mdb are damaged ({what}): {_ANEW}")


def write_failure(path: Path, error: lmdb.Error) -> StoreError:
    """Explains why a write failed; what was stored before it stays."""
    text, free_bytes = str(error), shutil.disk_usage(path).free
    size = (path / "data.mdb").stat().st_size
    full = os.strerror(errno.ENOSPC) in text or os.strerror(errno.EDQUOT) in text
    stays = f"{path / 'data.mdb'} has {size} bytes, and what was stored before stays"
    if full or (os.strerror(errno.EIO) in text and free_bytes < _FULL_BYTES):
        return StoreError(
            f"token store {path}: the disk is full ({free_bytes} bytes free); {stays}: "
            "free some, or move the store to a larger disk, and run again"
        )
    if os.strerror(errno.EFBIG) in text or os.strerror(errno.EIO) in text:
        return StoreError(
            f"token store {path}: a write failed ({error}); {stays}: look for a limit of the size of files "
            "(ulimit -f), a quota or a failing disk, and run again"
        )
    return failure(path, error, read_only=False)


def not_in_place(path: Path, state: FileState) -> StoreError:
    """Words the end of writing to a file that stands there no more."""
    error = StoreError(
        f"token store {path} is {state.value} since it was opened to write to, which ends here: run again"
    )
    error.replaced = state is FileState.REPLACED
    return error


def _permission_error(path: Path, read_only: bool) -> StoreError:
    if not os.access(path / "data.mdb", os.R_OK):
        return StoreError(f"token store {path} cannot be opened: no permission to read {path / 'data.mdb'}")
    if read_only:
        return StoreError(
            f"token store {path} cannot be opened: its readers write to lock.mdb, and this user may not: "
            f"give it permission to write {path / 'lock.mdb'} and to create it in {path}, or {_FROZEN}"
        )
    return StoreError(
        f"token store {path} cannot be opened for writing: "
        f"give this user permission to write {path / 'data.mdb'} and {path / 'lock.mdb'}"
    )


def _shared_error(path: Path, error: lmdb.Error, read_only: bool) -> StoreError | None:
    """Explains a lock that a process of the same number holds: LMDB tells processes apart by that."""
    if os.strerror(errno.EAGAIN) not in str(error) and "mdb_txn_begin: Permission denied" not in str(error):
        return None
    way_out = (
        _FROZEN if read_only else "write to a store of its own, and rename that into the place of this one"
    )
    return StoreError(
        f"token store {path}: a process of the same number as this one, {os.getpid()}, reads it in another container: "
        f"{way_out}; or let the containers share one namespace of processes"
    )
