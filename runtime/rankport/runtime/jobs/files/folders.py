"""Formats of files, and which files of a folder hold items, told by names alone: here, and behind URLs.

Leaves out what tools put beside the rows that they write: names that start with a dot or an underscore (`_temporary` of
Spark, `.ipynb_checkpoints`, `._items.csv`), as Spark and pyarrow do, but for partitions (`_day=…`). A table whose log
says which of its files count is refused: the others hold rows that were deleted or replaced.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from glob import has_magic
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from rankport.protos.errors import InvalidRequest
from rankport.protos.reasons import reason_of
from rankport.runtime.jobs.config import FileFormat

T = TypeVar("T")
Partitions = tuple[tuple[str, str | None], ...]
"""Columns that all rows of a file have from its folders, with their values."""

_SUFFIXES: Mapping[str, FileFormat] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".lance": "lance",
}
# What they hold is told by how they begin: all but zip are read.
_COMPRESSED = frozenset((".gz", ".gzip", ".bz2", ".xz", ".zst", ".lz4", ".zip"))
_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi"}
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_OF_THE_DISK = "lost+found"
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_ICEBERG = ("metadata", ".metadata.json")  # folder and end of the names of its logs


def format_of(name: str) -> FileFormat | None:
    """Tells the format of a file by its name; None where that says none."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes if suffix.lower() not in _COMPRESSED]
    return _SUFFIXES.get(suffixes[-1] if suffixes else "")


def partitions_of(name: str) -> Partitions:
    """Reads the columns that the folders of a file, or of a URL, say as Hive has it: `day=2026-01-01/a.parquet`."""
    path = name.partition("?")[0] if name.startswith(("http://", "https://")) else name
    said = (part.partition("=") for part in path.split("/")[:-1])
    columns = {unquote(column): unquote(value) for column, equals, value in said if column and equals}
    return tuple((column, None if value == _HIVE_NULL else value) for column, value in columns.items())


def item_files(folder: str, names: Iterable[str], file_format: FileFormat | None) -> list[str]:
    """Finds those that hold items among the names, below a folder, of all its files; a Lance dataset is one.

    Where no name tells a format, and one is given, all of them do. Raises `InvalidRequest` for a table.
    """
    parted = [name.split("/") for name in sorted(names)]
    for parts in parted:
        _check_no_table(folder, parts)
    visible = [parts for parts in parted if not any(map(is_beside, parts))]
    told = dict.fromkeys("/".join(_dataset(parts)) for parts in visible if format_of(_dataset(parts)[-1]))
    return list(told or (map("/".join, visible) if file_format else ()))


def files_below(folder: str) -> Iterator[str]:
    """Yields the names of all files below a folder that is here, through links too, each folder once.

    Raises `InvalidRequest` for a folder there that cannot be read: nobody knows which items it has.
    """

    def fail(error: OSError) -> None:
        parts = Path(error.filename).relative_to(folder).parts
        if not any(is_beside(part) or part == _OF_THE_DISK for part in parts):
            raise InvalidRequest(f"{error.filename} cannot be read: {reason_of(error)}") from error

    seen: set[str] = set()
    for path, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        folders.sort()
        if os.path.realpath(path) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(path))
        below = Path(path).relative_to(folder)
        yield from ((below / file).as_posix() for file in files)


def check_readable(pattern: str) -> None:
    """Raises as `files_below` for a folder on the way of a pattern: glob passes over those that cannot be read."""
    _check_way("", pattern.split("/"))


def _check_way(folder: str, parts: Sequence[str]) -> None:
    """Checks what the rest of a pattern goes through in a folder, which is "" where the process is."""
    if not parts:
        _seen(os.stat, folder)
    elif parts[0] == "**":
        for _ in files_below(folder or ".") if os.path.isdir(folder or ".") else ():
            pass
    elif not has_magic(parts[0]):
        _check_way(os.path.join(folder, parts[0]) or "/", parts[1:])
    else:
        for name in _seen(os.listdir, folder or ".") or ():
            if (
                fnmatch(name, parts[0])
                and (is_beside(parts[0]) or not is_beside(name))
                and name != _OF_THE_DISK
            ):
                _check_way(os.path.join(folder, name), parts[1:])


def _seen(look: Callable[[str], T], path: str) -> T | None:
    """Looks at what may be there; None where there is nothing. Raises `InvalidRequest` where nobody can tell."""
    try:
        return look(path)
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return None
        raise InvalidRequest(f"{path} cannot be read: {reason_of(error)}") from error


def _dataset(parts: list[str]) -> list[str]:
    """Cuts the path of a file to that of the Lance dataset that it lies in."""
    end = next((at for at, part in enumerate(parts[:-1], 1) if format_of(part) == "lance"), len(parts))
    return parts[:end]


def why_none(source: str) -> str:
    """Says why a folder or a pattern, in which there are no items, has none."""
    if has_magic(source):
        return "the pattern finds no file"
    return "no file of a format that its name tells: give their format (--format)"


def is_beside(name: str) -> bool:
    """Says whether a file, or a folder, of that name holds no items."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def lies_beside(pattern: str, name: str) -> bool:
    """Says whether a pattern found what holds no items, and did not ask for it."""
    parts = pattern.split("/")
    first = next(at for at, part in enumerate(parts) if has_magic(part))
    return not any(map(is_beside, parts[first:])) and any(map(is_beside, name.split("/")[first:]))


def _check_no_table(folder: str, parts: list[str]) -> None:
    log = next((part for part in parts[:-1] if part in _LOGS), None)
    if log is not None:
        kind, above = _LOGS[log], parts[: parts.index(log)]
    elif len(parts) > 1 and parts[-2] == _ICEBERG[0] and parts[-1].endswith(_ICEBERG[1]):
        kind, above = "Iceberg", parts[:-2]
    else:
        return
    table = "/".join([folder.rstrip("/"), *above])
    raise InvalidRequest(
        f"{table} is a table of {kind}, whose log says which of its files count: write its rows to Parquet with a tool "
        f"that reads it, or give the pattern '{table}/**/*.parquet' to read all files that lie there"
    )
