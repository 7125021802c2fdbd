"""Files and folders that several tests need and no test changes: made once a run, and shared by all its workers.

Every run has a folder of its own, so nothing is taken over from another run.
"""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def run_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """Gives a folder of this run that all its workers share."""
    base = factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # a worker's base lies in the run's
    folder = root / name
    folder.mkdir(exist_ok=True)
    return folder


def made_once(place: Path, make: Callable[[Path], object]) -> Path:
    """Lets the first who asks `make` the file or folder at `place`; whoever asks meanwhile waits for it.

    `make` gets a path beside it that does not exist. What it made is read-only. When it raises, the next tries again.
    """
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel, should this process die
        if not place.exists():
            _publish(place, make)
    return place


def _publish(place: Path, make: Callable[[Path], object]) -> None:
    beside = place.with_name(f"{place.name}.making")
    if beside.is_dir():  # of a process that died
        shutil.rmtree(beside)
    make(beside)
    files = [path for path in beside.rglob("*") if path.is_file()] if beside.is_dir() else [beside]
    for file in files:
        file.chmod(0o444)
    beside.rename(place)
