"""`DataFile`: the file under an environment of LMDB, watched from outside of its map.

Owns what the file was when it was opened and what has become of it: memory of a map whose file was cut raises a signal
that ends the process, and a map of a file that another one replaced reads the old one for ever.
"""

import os
from enum import Enum
from pathlib import Path

from rankport.protos.errors import StoreError

DATA = "data.mdb"


class FileState(Enum):
    """State of a file since it was opened."""

    SAME = "same"  # written to by LMDB, if at all
    REPLACED = "replaced by another"
    GONE = "gone"
    CUT = "cut short"  # by what is not LMDB, which never does: reading its map would end the process


class DataFile:
    """File of the environment in a directory, as it is now. Raises OSError where there is none."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / DATA
        stat = os.stat(self._path)
        self._identity = stat.st_dev, stat.st_ino
        self._size = stat.st_size
        self._written_ns = stat.st_mtime_ns

    @property
    def written_ns(self) -> int:
        """Time of the last write, of LMDB or of a copy over it, as of the last look."""
        return self._written_ns

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

    def check_whole(self, pages: int, page_bytes: int) -> None:
        """Raises `StoreError` where the file has fewer bytes than its own pages take."""
        if self._size < pages * page_bytes:
            raise StoreError(
                f"token store {self._path.parent} is cut short: {DATA} has {self._size} bytes, its pages take "
                f"{pages * page_bytes}: copy it anew (into another directory, then rename that), or encode again"
            )
