"""Refusals of a disk while files are written (full, read-only, over a quota), told by the place that the user named."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from rankport.protos.reasons import reason_of

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_PROBE_BYTES = 1 << 20
_PROBES = 2  # the first may be written in part


@contextmanager
def refusals_told(place: Path) -> Iterator[None]:
    """Has what the disk refuses to write below `place` in the block end it with an `OSError` that names `place`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        refused = disk_refusal(error, place, place)
        if refused is None:
            raise
        raise refused from error


def disk_refusal(error: BaseException | None, written: Path, place: Path) -> OSError | None:
    """Makes an error that names `place` of one of writing files below `written`, None of any other.

    Call it before the files are removed: numpy does not say why a write failed, so the last file is written on.
    """
    if isinstance(error, SafetensorError):
        number = _OS_ERROR.search(str(error))
        error = None if number is None else OSError(int(number[1]), os.strerror(int(number[1])))
    if not isinstance(error, OSError):
        return None
    if error.filename is not None:
        inside = Path(os.fsdecode(error.filename)).is_relative_to(written)
        if not inside or error.errno == errno.ENOENT:
            return None
    elif error.errno is None:
        error = _refused_on(written)
    elif error.errno not in _NO_ROOM:
        return None
    if error is None:
        return None
    return OSError(error.errno, f"cannot be written: {reason_of(error)}", str(place))


def _refused_on(written: Path) -> OSError | None:
    """Gives what the system says to more bytes of the file that was written last, which stays as it is."""
    files = [file for file in written.rglob("*") if file.is_file()]
    if not files:
        return None
    last = max(files, key=lambda file: file.stat().st_mtime_ns)
    size = last.stat().st_size
    try:
        with last.open("ab", buffering=0) as opened:
            try:
                for _ in range(_PROBES):
                    opened.write(bytes(_PROBE_BYTES))
            finally:
                opened.truncate(size)
    except OSError as error:
        return error
    return None
