"""Files and their names made durable, two names exchanged in one step, and turns in a folder."""

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NO_SYNC_OF_FOLDERS = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)
# EXDEV: of a folder that is a volume of its own (btrfs); EPERM: of a sandbox that knows no such call. What two renames
# cannot do either, they tell.
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV, errno.EPERM)
_AT_CWD, _EXCHANGE = -100, 2  # of Linux


def sync_names(folder: Path) -> None:
    """Makes the names of a folder's files durable, on file systems that can. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC_OF_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Makes what a file holds durable. Raises OSError."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


@contextmanager
def turn_in(folder: Path) -> Iterator[None]:
    """Waits until no other process has its turn in a folder, on file systems with locks. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def exchanged(first: Path, second: Path) -> bool:
    """Exchanges two files or folders, so that each name stands at every moment. Raises OSError.

    False where the system, or the file system, cannot: then nothing was done.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_CWD, os.fsencode(first), _AT_CWD, os.fsencode(second), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(first))
