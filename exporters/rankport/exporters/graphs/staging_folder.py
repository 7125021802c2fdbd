"""Hidden folders beside a place: locked while their process lives, cleared by the next one when it was killed."""

import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_WAIT_S, _PAUSE_S = 10.0, 0.005
_SCRATCH = "twin"


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


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """Makes a folder beside a bundle, whose files can be linked there, and removes it; what was killed before goes too.

    Where nothing can be written the folder is among the system's temporary ones.
    """
    try:
        clear_abandoned(beside, _SCRATCH)
        path, lock = make_locked(beside, _SCRATCH)
    except OSError:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    try:
        yield path
    finally:
        shutil.rmtree(path)
        os.close(lock)


@contextmanager
def beginning(out: Path) -> Iterator[None]:
    """Lets one beginner at a time, of this machine, look what is beside `out` and make its folder there.

    Waits a few seconds at most, and on a file system without locks not at all.
    """
    parent = os.open(out.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        end = time.monotonic() + _WAIT_S
        while not _is_locked(parent) and time.monotonic() < end:
            time.sleep(_PAUSE_S)
        yield
    finally:
        os.close(parent)


def _is_locked(folder: int) -> bool:
    """Locks an open folder until it is closed; tells False where another has the lock."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def clear_abandoned(out: Path, purpose: str) -> None:
    """Removes folders beside `out` whose processes, of this machine, were killed. What cannot be removed stays."""
    for path, _ in list(_siblings(out, purpose)):
        with suppress(OSError), _unlocked(path):
            shutil.rmtree(path, ignore_errors=True)


def locked_by_another(out: Path, purpose: str) -> tuple[Path, int | None] | None:
    """Finds a folder beside `out` whose process, of this machine, lives: with its id, where the name tells it."""
    for path, process in list(_siblings(out, purpose)):
        try:
            with _unlocked(path):
                continue
        except BlockingIOError:
            return path, process
        except OSError:  # a file system without locks, or one that cleared was faster
            continue
    return None


def sibling(out: Path, purpose: str) -> Path:
    """Names a hidden path beside `out` that nothing else has, with the id of this process."""
    return out.with_name(f".{out.name}.{purpose}-{_machine()}-{os.getpid()}-{secrets.token_hex(6)}")


def _siblings(out: Path, purpose: str) -> Iterator[tuple[Path, int | None]]:
    """Lists such folders with the ids of their processes, which releases before this one did not name.

    What is beside such a folder, as a scratch folder may be, is listed with it.
    """
    named = re.compile(
        rf"(\.)?{re.escape(f'.{out.name}.{purpose}')}-{_machine()}-(?:(\d+)-)?[0-9a-f]{{12}}"
        rf"(?(1)\.{_SCRATCH}-{_machine()}-\d+-[0-9a-f]{{12}})"
    )
    for entry in os.scandir(out.parent):
        match = named.fullmatch(entry.name)
        if match and entry.is_dir(follow_symlinks=False):
            yield Path(entry.path), None if match[2] is None else int(match[2])


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
