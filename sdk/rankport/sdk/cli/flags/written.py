"""Flags by which a result is written, and to which file."""

import errno
import os
from collections.abc import Iterator, Mapping
from functools import wraps
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import typer

Format = Literal["table", "csv", "json"]


def written_format(form: Format | None, as_json: bool, out: Path | None) -> Format:
    """Chooses how a result is written: as asked, or by the ending of --out; "-" is standard output.

    Raises `typer.BadParameter`.
    """
    if as_json and form not in (None, "json"):
        raise typer.BadParameter(f"--json and --format {form} contradict each other: give one of them")
    if form is not None or as_json:
        return form or "json"
    if out is None or str(out) == "-":
        return "table"
    endings: dict[str, Format] = {".csv": "csv", ".json": "json"}
    if out.suffix not in endings:
        raise typer.BadParameter(f"--out {out}: its ending says no format: give .csv, .json or --format")
    return endings[out.suffix]


def writable(param: typer.CallbackParam, file: Path | None) -> Path | None:
    """Checks, as the callback of an option, that its file can be written once there is something to write.

    Raises `OSError` that names option and file.
    """
    number = None if file is None or str(file) == "-" else _fault(file)
    if number is not None:
        told = f"{max(param.opts, key=len)} {file}"
        raise OSError(number, f"cannot be written: {os.strerror(number)}", told)
    return file


def guard_files(command: Any) -> None:
    """Has a command, or all of a group, refuse a file to write that is one of its others: it would be written over."""
    for below in getattr(command, "commands", {}).values():
        guard_files(below)
    if hasattr(command, "commands"):
        return
    called = command.callback

    @wraps(called)
    def guarded(**given: Any) -> Any:
        _refuse_one_file_twice(command, given)
        return called(**given)

    command.callback = guarded


def _refuse_one_file_twice(command: Any, given: Mapping[str, object]) -> None:
    """Raises `typer.BadParameter` where two options name one file, and one of them is to be written."""
    named = [
        (option, path)
        for param in command.params
        for option in [max(param.opts, key=len) if param.opts[0].startswith("-") else str(param.name)]
        for path in _paths(option, given.get(str(param.name)))
    ]
    for (first, path), (second, other) in combinations(named, 2):
        written = WRITTEN & {first, second}
        if path == other == "-" and len(written) == 2:
            raise typer.BadParameter(f"{first} and {second} are both -: standard output takes one of them")
        if written and first != second and path != "-" and os.path.realpath(path) == os.path.realpath(other):
            raise typer.BadParameter(
                f"{first} and {second} are both {path}: give another place to one of them"
            )


WRITTEN = {"--json", "--html", "--out", "--bad-rows", "--list"}
FILES_AS_TEXT = {"--file", "--items", "--prefixes", "--store", "first", "second", "source", "store", "target"}
"""Options and arguments that name files by text, since a URL or "-" may stand there; other text is a name or a word."""


def _paths(option: str, value: object) -> Iterator[str]:
    """Gives the files that an option names; of one that is read, those that are there to be written over."""
    for each in value if isinstance(value, list) else [value]:
        named = isinstance(each, Path) or (isinstance(each, str) and each and option in FILES_AS_TEXT)
        if named and (option in WRITTEN or os.path.exists(str(each))):
            yield str(each)


def _fault(file: Path) -> int | None:
    """Finds the system's number of what keeps a file from being written; makes nothing."""
    if file.is_dir():
        return errno.EISDIR
    folder = next(parent for parent in file.absolute().parents if parent.exists())
    if not folder.is_dir():
        return errno.ENOTDIR
    return None if os.access(file if file.exists() else folder, os.W_OK) else errno.EACCES
