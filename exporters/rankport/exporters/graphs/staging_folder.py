"""Hidden folders beside a place: locked while their process lives, cleared by the next one when it was killed."""

import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def make_locked(out: Path, purpose: str) -> tuple[Path, int]:
    """Makes a folder beside `out`, and a lock on it that lasts until the descriptor is closed.

    A file system without locks gives a folder that no other process clears.
    """
    while True:
        path = sibling(out, purpose)
        path.mkdir()
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):  # a file system without locks, or one that clears was faster
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            return path, lock
        os.close(lock)


def clear_abandoned(out: Path, purpose: str) -> None:
    """Removes folders beside `out` whose processes, of this machine, were killed. What cannot be removed stays."""
    for path in list(_siblings(out, purpose)):
        with suppress(OSError), _unlocked(path):
            shutil.rmtree(path, ignore_errors=True)


def sibling(out: Path, purpose: str) -> Path:
    """Names a hidden path beside `out` that nothing else has."""
    return out.with_name(f".{out.name}.{purpose}-{_machine()}-{secrets.token_hex(6)}")


def _siblings(out: Path, purpose: str) -> Iterator[Path]:
    named = re.compile(re.escape(f".{out.name}.{purpose}-{_machine()}-") + "[0-9a-f]{12}")
    for entry in os.scandir(out.parent):
        if named.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            yield Path(entry.path)


@contextmanager
def _unlocked(path: Path) -> Iterator[None]:
    """Holds a folder's lock. Raises `OSError` where a process that lives has it."""
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _machine() -> str:
    """Tells machines apart that share a disk: their locks may not reach each other."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
