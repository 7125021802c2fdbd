"""`DataFile`: the file under an environment of LMDB, and whether it is whole."""

import os
from pathlib import Path

from rankport.protos.errors import StoreError
from rankport.runtime.store.watched_file import WatchedFile

DATA, LOCK = "data.mdb", "lock.mdb"


def left_by_compaction(directory: Path) -> Path:
    """Names where a compaction keeps a store while another one takes its place, if it cannot exchange the two."""
    real = Path(os.path.realpath(directory))
    return real.with_name(f".{real.name}.old")


class DataFile(WatchedFile):
    """File of the environment in a directory, as it is now. Raises OSError where there is none."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / DATA)
        self._directory = directory

    def check_whole(self, pages: int, page_bytes: int) -> None:
        """Raises `StoreError` where the file has fewer bytes than its own pages take."""
        if self.size < pages * page_bytes:
            raise StoreError(
                f"token store {self._directory} is cut short: {DATA} has {self.size} bytes, its pages take "
                f"{pages * page_bytes}: copy it anew (into another directory, then rename that), or encode again"
            )
