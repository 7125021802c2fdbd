"""`MappedFiles`: files that are read in place, a bundle's or a trie's, watched from outside of their maps.

ONNX Runtime maps external tensors, rankers of sets their tables, generators tries. What is written over such a file
changes a running model without a word, and memory behind the end of one that was cut raises a signal that ends the
process.
A file that another one replaces, by renaming, stays as it was for who has it open, and may.
"""

import hashlib
import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Self

from rankport.protos.errors import BundleError
from rankport.protos.reasons import reason_of
from rankport.runtime.bundle.manifest import FileEntry

_BLOCK_BYTES = 2**20
_BUNDLE = "put a bundle into its place by renaming a directory, never by writing over its files"
_log = logging.getLogger(__name__)


class MappedFiles:
    """Files that stay open for as long as they are mapped."""

    def __init__(self, directory: Path, entries: Collection[FileEntry]) -> None:
        """Opens a bundle's files before they are mapped. Raises `BundleError` for one that is not there."""
        self._files: list[_MappedFile] = []
        try:
            for entry in entries:
                self._files.append(_MappedFile(directory / entry.path, entry, _BUNDLE))
        except OSError as error:
            self.close()
            raise BundleError(f"{directory}: {error.filename} cannot be read: {reason_of(error)}") from error

    @classmethod
    def of_paths(cls, paths: Iterable[Path], remedy: str) -> Self:
        """Opens files whose hash nobody knows: each write to one changes it. `remedy` says how to replace them.

        Raises `OSError` for one that is not there.
        """
        files = cls(Path(), ())
        files._files = [_MappedFile(path, None, remedy) for path in paths]
        return files

    def check_opened(self) -> None:
        """Raises `BundleError` where another file has taken a place meanwhile, which was then mapped unseen."""
        for file in self._files:
            file.check_opened()

    def changed(self) -> str:
        """Tells the file whose bytes are not what they were, "" if there is none; costs a microsecond a file."""
        return next(filter(None, (file.changed() for file in self._files)), "")

    def close(self) -> None:
        """Closes them. Closing twice does nothing."""
        while self._files:
            self._files.pop().close()


class _MappedFile:
    """Open file. Closed at the latest with the last that refers to it."""

    def __init__(self, path: Path, entry: FileEntry | None, remedy: str) -> None:
        self._path, self._remedy = path, remedy
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY)
        stat = os.fstat(self._descriptor)
        self._written_ns = stat.st_mtime_ns
        self._sha256 = None if entry is None else entry.sha256
        self._size = stat.st_size if entry is None else entry.size

    def check_opened(self) -> None:
        if not os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):
            raise BundleError(f"{self._path} was replaced while it was loaded: load it again")

    def changed(self) -> str:
        stat = os.fstat(self._descriptor)
        if stat.st_size == self._size:
            if stat.st_mtime_ns == self._written_ns:
                return ""
            if self._has_its_hash():
                _log.warning("%s was written to, and has the bytes that it had", self._path)
                self._written_ns = stat.st_mtime_ns
                return ""
        return (
            f"{self._path} was written over or cut under this process (it has {stat.st_size} bytes of "
            f"{self._size}): {self._remedy}"
        )

    def _has_its_hash(self) -> bool:
        if self._sha256 is None:
            return False
        hashed, offset = hashlib.sha256(), 0
        while block := os.pread(self._descriptor, _BLOCK_BYTES, offset):
            hashed.update(block)
            offset += len(block)
        return hashed.hexdigest() == self._sha256

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()
