"""Compaction of a store in LMDB: a copy without its free pages, in the place of the store.

Owns the order of the steps, so that no write is lost and a crash leaves a whole store: the copy is made, checked and
durable while no other process can write, then the two directories are exchanged in one step, or by two renames where
the file system cannot. LMDB keeps its counters in `lock.mdb`, so the directory is replaced as a whole, never its data
file alone.
"""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rankport.protos.errors import StoreError
from rankport.protos.reasons import reason_of
from rankport.runtime.store.durable_files import exchanged, sync_file, sync_names, turn_in
from rankport.runtime.store.lmdb_store.data_file import DATA, LOCK, left_by_compaction
from rankport.runtime.store.lmdb_store.store import LmdbStore


@dataclass(frozen=True, slots=True)
class Compaction:
    """Bytes of a store's file."""

    before_bytes: int
    after_bytes: int


def compact_store(path: Path) -> Compaction:
    """Compacts the store at `path`. Servers that read it open the new one; a job that writes to it must be run again.

    Raises:
        StoreError: no store there, a file that is none of its own, too little room for the copy, or no permission; the
            store is as it was.
    """
    path = Path(os.path.realpath(path))  # of a link, what it leads to is replaced
    try:
        with turn_in(path.parent):
            return _compact(path)
    except OSError as error:
        raise StoreError(f"token store {path} cannot be compacted: {reason_of(error)}") from error


def _compact(path: Path) -> Compaction:
    fresh, old = path.with_name(f".{path.name}.compacted"), left_by_compaction(path)
    if old.exists() and not path.exists():
        os.rename(old, path)  # a run was killed between its two renames
    before = (path / DATA).stat().st_size if (path / DATA).is_file() else 0
    try:
        with LmdbStore.open(path) as store:
            _require_no_more(path)
            for leftover in (fresh, old):
                shutil.rmtree(leftover, ignore_errors=True)
            fresh.mkdir()
            store.compact(fresh, lambda counts: _swap(path, fresh, old, counts))
    finally:
        if path.exists():  # else the copy is all that there is, beside what the store was
            shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return Compaction(before, (path / DATA).stat().st_size)


def _require_no_more(path: Path) -> None:
    """Raises StoreError for a file of the owner's in the directory, which goes with it."""
    own = sorted(file.name for file in path.iterdir() if file.name not in (DATA, LOCK))
    if own:
        raise StoreError(
            f"token store {path} holds {own[0]!r}, which is none of its own files and would be deleted with the "
            "directory: move it away"
        )


def _swap(path: Path, fresh: Path, old: Path, counts: Mapping[str, int]) -> None:
    with LmdbStore.open(fresh, read_only=True) as store:
        copied = store.counts()
    if copied != counts:
        raise StoreError(
            f"token store {path}: its compacted copy has {copied} items, not {counts}: a disk fails?"
        )
    shutil.copystat(path, fresh)
    for name in ("", DATA, LOCK):
        _take_rights(path / name, fresh / name)
    sync_file(fresh / DATA)
    sync_names(fresh)
    if not exchanged(path, fresh):
        os.rename(path, old)
        os.rename(fresh, path)
    sync_names(path.parent)  # before what the store was is deleted


def _take_rights(before: Path, after: Path) -> None:
    """Lets those who could use a file use the one in its place, as far as this user may say so. Raises OSError."""
    owned = before.stat()
    with suppress(PermissionError):
        os.chown(after, owned.st_uid, owned.st_gid)
    shutil.copymode(before, after)
