"""`WatchedFile`: a mapped file, watched from outside of its map.

Owns what the file was when it was opened and what has become of it: memory of a map whose file was cut raises a signal
that ends the process, and a map of a file that another one replaced reads the old one for ever.
"""

import os
from enum import Enum
from pathlib import Path


class FileState(Enum):
    """State of a file since it was opened."""

    SAME = "same"  # written to by its owner, if at all
    REPLACED = "replaced by another"
    GONE = "gone"
    CUT = "cut short"  # by what is not its owner, which never does: reading its map would end the process
    WRITTEN = "written over"  # a file that is never written to


class WatchedFile:
    """File as it is now. Raises OSError where there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        stat = os.stat(path)
        self._identity = stat.st_dev, stat.st_ino
        self._size = stat.st_size
        self._written_ns = stat.st_mtime_ns

    @property
    def size(self) -> int:
        """Bytes of the file, as of the last look."""
        return self._size

    @property
    def written_ns(self) -> int:
        """Time of the last write, of its owner or of a copy over it, as of the last look."""
        return self._written_ns

    def is_file(self, descriptor: int) -> bool:
        """Says whether an open file is this one."""
        stat = os.fstat(descriptor)
        return (stat.st_dev, stat.st_ino) == self._identity

    def look(self) -> FileState:
        """Looks what the file has become. Costs a microsecond or two."""
        size = self._size  # read first: other threads look too, and the file grows meanwhile
        try:
            stat = os.stat(self._path)
        except OSError:
            return FileState.GONE
        if (stat.st_dev, stat.st_ino) != self._identity:
            return FileState.REPLACED
        if stat.st_size < size:
            return FileState.CUT
        self._size, self._written_ns = stat.st_size, stat.st_mtime_ns
        return FileState.SAME
