"""Parts that the files of tables share: memory maps, and blocks of 64 bytes."""

import mmap
from pathlib import Path


def mapped(path: Path) -> mmap.mmap:
    """Maps a file to be read. `read_here_and_there` says how."""
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def read_here_and_there(file: mmap.mmap) -> None:
    """Says that what lies beside a place that is read is of no use."""
    file.madvise(mmap.MADV_RANDOM)


def padded_size(size: int) -> int:
    """Rounds bytes up to whole blocks."""
    return -(-size // 64) * 64


def padded(data: bytes) -> bytes:
    """Fills the last block with zeros."""
    return data.ljust(padded_size(len(data)), b"\0")
