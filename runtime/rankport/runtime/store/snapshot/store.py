"""`SnapshotStore`: a directory with one file for each encoder, only read.

Owns which files there are. A file is named after its encoder's fingerprint; names that start with a dot are of
writers that are at work.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Final, NoReturn

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.protos.processes.own_process import OwnProcess
from rankport.protos.reasons import reason_of
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.snapshot.current_file import CurrentFile
from rankport.runtime.store.snapshot.namespace import SnapshotNamespace
from rankport.runtime.store.snapshot.snapshot_file import SnapshotFile
from rankport.runtime.store.token_spec import TokenSpec

SUFFIX: Final = ".tokens"
SWAP_S: Final = 5.0


class SnapshotStore(TokenStore):
    """Directory of snapshots; a context manager."""

    def __init__(self, path: Path, swap_s: float) -> None:
        super().__init__(str(path))
        self._path, self._swap_s = path, swap_s
        self._process = OwnProcess()
        self._open_files: dict[str, CurrentFile] = {}
        self._closed = False

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, swap_s: float = SWAP_S) -> "SnapshotStore":
        """Opens the snapshots in a directory. One that goes is read on for `swap_s` seconds.

        Raises:
            StoreError: none lies there, or one is not what its header says.
        """
        store = cls(Path(path), swap_s)
        if not store.fingerprints():
            copy = f"`rankport store copy LMDB-STORE {quote(str(path))} --to snapshot`"
            raise StoreError(f"no snapshot in {path}: write one with {copy}")
        return store

    @staticmethod
    def is_at(path: Path) -> bool:
        """Says whether a directory holds snapshots."""
        return any(True for _ in _files(path))

    def fingerprints(self) -> Mapping[str, TokenSpec]:
        """Lists the encoders whose tokens are here.

        Raises:
            StoreError: a file is not what its header says, or named after another encoder; or the store is closed.
        """
        if self._closed:
            raise StoreError(f"token store {self.location} is closed: open it again")
        specs: dict[str, TokenSpec] = {}
        for path in sorted(_files(self._path)):
            header = SnapshotFile(path).header
            if path.name != header.fingerprint + SUFFIX:
                raise StoreError(
                    f"{path} has the tokens of encoder {header.fingerprint}: name it {header.fingerprint}{SUFFIX}"
                )
            specs[header.fingerprint] = header.spec
        return specs

    @property
    def writable(self) -> bool:
        """False: a snapshot is only read."""
        return False

    def beside(self) -> NoReturn:
        """Raises `InvalidRequest`: a snapshot is only read."""
        raise InvalidRequest(only_read(self._path))

    def close(self) -> None:
        """Lets go of the files; reads in other threads end first. Closing twice does nothing."""
        self._closed = True
        for file in self._open_files.values():
            file.close()

    def _open_namespace(self, fingerprint: str, spec: TokenSpec) -> SnapshotNamespace:
        file = CurrentFile(self._path / f"{fingerprint}{SUFFIX}", self._swap_s)
        self._open_files[fingerprint] = file
        return SnapshotNamespace(file)

    def _create_namespace(self, fingerprint: str, spec: TokenSpec) -> NoReturn:
        raise StoreError(only_read(self._path))

    def _drop(self, fingerprint: str) -> None:
        path = self._path / f"{fingerprint}{SUFFIX}"
        try:
            path.unlink()
        except OSError as error:
            raise StoreError(f"{path} cannot be deleted: {reason_of(error)}") from error

    def _check_process(self) -> None:
        if self._process.forked:
            raise StoreError(
                f"token store {self.location} was opened before a fork: open it in the child process"
            )


def only_read(path: Path) -> str:
    """Words why nothing can be written to a snapshot."""
    return (
        f"token store {path} is a snapshot, which is only read: write to a store in LMDB, and copy that "
        "(`rankport store copy`)"
    )


def _files(path: Path) -> list[Path]:
    try:
        names = [name for name in os.listdir(path) if name.endswith(SUFFIX) and not name.startswith(".")]
    except OSError:
        return []
    return [path / name for name in names]


def check_openable(path: Path, *, create: bool, read_only: bool, frozen: bool) -> None:
    """Raises `InvalidRequest` or `StoreError` where a snapshot is to be written to."""
    if create and (read_only or frozen):
        raise InvalidRequest(f"token store {path}: a store that is created cannot be read-only")
    if not (read_only or frozen):
        raise StoreError(only_read(path))
