"""`MappedFiles`: files of a bundle that are read in place, watched from outside of their maps.

ONNX Runtime maps external tensors, rankers of sets their tables. What is written over such a file changes the weights
of a running model without a word, and memory behind the end of one that was cut raises a signal that ends the process.
A file that another one replaces, by renaming, stays as it was for who has it open, and may.
"""

import hashlib
import logging
import os
from collections.abc import Collection
from pathlib import Path

from rankport.protos.errors import BundleError
from rankport.protos.reasons import reason_of
from rankport.runtime.bundle.manifest import FileEntry

_BLOCK_BYTES = 2**20
_log = logging.getLogger(__name__)


class MappedFiles:
    """Files that stay open for as long as they are mapped."""

    def __init__(self, directory: Path, entries: Collection[FileEntry]) -> None:
        """Opens them before they are mapped. Raises `BundleError` for one that is not there."""
        self._files: list[_MappedFile] = []
        try:
            for entry in entries:
                self._files.append(_MappedFile(directory / entry.path, entry))
        except OSError as error:
            self.close()
            raise BundleError(f"{directory}: {error.filename} cannot be read: {reason_of(error)}") from error

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
    def __init__(self, path: Path, entry: FileEntry) -> None:
        self._path, self._entry = path, entry
        self._descriptor = os.open(path, os.O_RDONLY)
        self._written_ns = os.fstat(self._descriptor).st_mtime_ns

    def check_opened(self) -> None:
        if not os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):
            raise BundleError(f"{self._path} was replaced while it was loaded: load it again")

    def changed(self) -> str:
        stat = os.fstat(self._descriptor)
        if stat.st_size == self._entry.size:
            if stat.st_mtime_ns == self._written_ns:
                return ""
            if self._has_its_hash():
                _log.warning("%s was written to, and has the bytes that it had", self._path)
                self._written_ns = stat.st_mtime_ns
                return ""
        return (
            f"{self._path} was written over or cut under this process (it has {stat.st_size} bytes of "
            f"{self._entry.size}): put a bundle into its place by renaming a directory, never by writing over its files"
        )

    def _has_its_hash(self) -> bool:
        hashed, offset = hashlib.sha256(), 0
        while block := os.pread(self._descriptor, _BLOCK_BYTES, offset):
            hashed.update(block)
            offset += len(block)
        return hashed.hexdigest() == self._entry.sha256

    def close(self) -> None:
        os.close(self._descriptor)
