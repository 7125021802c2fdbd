"""Flags by which a result is written, and to which file."""

import errno
import os
from pathlib import Path
from typing import Literal

import typer

Format = Literal["table", "csv", "json"]


def written_format(form: Format | None, as_json: bool, out: Path | None) -> Format:
    """Chooses how a result is written: as asked, or by the ending of --out. Raises `typer.BadParameter`."""
    if as_json and form not in (None, "json"):
        raise typer.BadParameter(f"--json and --format {form} contradict each other: give one of them")
    if form is not None or as_json:
        return form or "json"
    if out is None:
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


def _fault(file: Path) -> int | None:
    """Finds the system's number of what keeps a file from being written; makes nothing."""
    if file.is_dir():
        return errno.EISDIR
    folder = next(parent for parent in file.absolute().parents if parent.exists())
    if not folder.is_dir():
        return errno.ENOTDIR
    return None if os.access(file if file.exists() else folder, os.W_OK) else errno.EACCES
