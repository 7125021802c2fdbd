"""Files of a bundle directory: which names they may have, which are there, what they hash to.

Reads only; it knows nothing of the manifest's other sections.
"""

import hashlib
import os
import re
from pathlib import Path

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.manifest import FileEntry
from rankport.runtime.bundle.manifest_json import MANIFEST_NAME

PLANS_DIRECTORY = "plans"

MAX_PATH_CHARACTERS = 255
_PATH = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


def path_problem(path: str) -> str | None:
    """Says why `path` cannot name a file of a bundle; None if it is relative, ASCII and stays inside."""
    if len(path) > MAX_PATH_CHARACTERS:
        return f"has {len(path)} characters, more than {MAX_PATH_CHARACTERS}"
    if not _PATH.fullmatch(path):
        return "must be names of the characters A-Z a-z 0-9 . _ - joined by single '/', and relative"
    parts = path.split("/")
    if "." in parts or ".." in parts:
        return "must not hold '.' or '..'"
    if parts[0] == PLANS_DIRECTORY:
        return f"must not lie in {PLANS_DIRECTORY}/, which belongs to the machine that serves"
    if path == MANIFEST_NAME:
        return "must not be the manifest itself"
    return None


def regular_files(root: Path) -> dict[str, Path]:
    """Lists every file under `root` by its path in the bundle, sorted; without the manifest and `plans/`.

    Raises:
        BundleError: something is neither a regular file nor a directory; a symbolic link could lead out.
    """
    files: dict[str, Path] = {}
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                name = path.relative_to(root).as_posix()
                if entry.is_symlink():
                    raise BundleError(f"{name!r} is a symbolic link: a bundle holds regular files only")
                if entry.is_dir(follow_symlinks=False):
                    if name != PLANS_DIRECTORY:
                        pending.append(path)
                elif not entry.is_file(follow_symlinks=False):
                    raise BundleError(f"{name!r} is no regular file: a bundle holds regular files only")
                elif name != MANIFEST_NAME:
                    files[name] = path
    return dict(sorted(files.items()))


def all_files(root: Path) -> list[str]:
    """Lists whatever under `root` is no directory, links and pipes too; without the manifest and `plans/`."""
    names: list[str] = []
    for directory, folders, files in os.walk(root):
        place = Path(directory)
        links = [folder for folder in folders if (place / folder).is_symlink()]
        names += [(place / name).relative_to(root).as_posix() for name in (*files, *links)]
        if place == root and PLANS_DIRECTORY in folders:
            folders.remove(PLANS_DIRECTORY)
    return sorted(set(names) - {MANIFEST_NAME})


def sha256_of(path: Path) -> str:
    """Returns the lowercase hex SHA-256 of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_entry(name: str, path: Path) -> FileEntry:
    """Makes what the manifest says of one file."""
    return FileEntry(path=name, size=path.stat().st_size, sha256=sha256_of(path))
