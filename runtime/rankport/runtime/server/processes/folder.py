"""Folder of the sockets between fronts and engines, and of what a front that is started again has to know."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rankport.protos.errors import InvalidRequest
from rankport.protos.reasons import reason_of

_LONGEST_PATH = 107  # bytes, of a unix socket
_LONGEST_NAME = len("/engine-999")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Makes a folder for the block, which no other user can read. Raises `InvalidRequest` where none can be."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="rankport-"))
    except OSError as error:
        raise InvalidRequest(
            f"fronts need a folder for the sockets of their engines ({reason_of(error)}): have TMPDIR name one that "
            "can be written, or mount one at /tmp"
        ) from error
    try:
        length = len(os.fsencode(folder)) + _LONGEST_NAME
        if length > _LONGEST_PATH:
            raise InvalidRequest(
                f"TMPDIR is {tempfile.gettempdir()}: paths of sockets below it have {length} bytes, and may have "
                f"{_LONGEST_PATH}: name a shorter one"
            )
        with _kept(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Holds the lock by which systemd-tmpfiles, which clears away what is old, leaves a folder alone."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)
