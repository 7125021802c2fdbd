"""Lines of a file, or of standard input, that a flag names, and JSON in them."""

import errno
import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

import typer

from rankport.protos.files.json_text import json_of_text

_BOM = "\ufeff"
_AS_FILES = ("utf-8", "strict")


def lines_of(path: str, option: str) -> list[str]:
    """Reads the lines with their ends; "-" is standard input, and a mark of UTF-8 at the start is no text.

    Raises `OSError` for a file that cannot be read, `typer.BadParameter` for one that is not UTF-8.
    """
    return list(each_line(path, option))


def filled_lines(path: str, option: str) -> list[str]:
    """Reads the lines as `lines_of` does. Raises `typer.BadParameter` also where none has anything in it."""
    lines = lines_of(path, option)
    if not any(line.strip() for line in lines):
        raise typer.BadParameter(f"{option} {path} has no line with anything in it")
    return lines


def text_of(path: str, option: str) -> str:
    """Reads a text without the line end that `echo` and editors put behind its last line. Raises as `lines_of`."""
    text = "".join(lines_of(path, option))
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def each_line(path: str, option: str) -> Iterator[str]:
    """Yields the lines as they come. Raises as `lines_of`."""
    try:
        with _standard_input() if path == "-" else Path(path).open(encoding="utf-8") as stream:
            for number, line in enumerate(stream):
                yield line.removeprefix(_BOM) if number == 0 else line
    except UnicodeDecodeError as error:
        raise typer.BadParameter(
            f"{option} {path} is not UTF-8 ({error.reason} at byte {error.start}): convert it "
            "(iconv -f ENCODING -t UTF-8; ENCODING is UTF-16 for some editors and shells of Windows)"
        ) from error


def _standard_input() -> nullcontext[TextIO]:
    """Opens standard input as files are read, whatever the locale. Raises `OSError` in a process that has none."""
    if sys.stdin is None:
        raise OSError(errno.EBADF, "is closed: give a file, or - with something to read", "standard input")
    # Of one that something was read of the encoding cannot be set: a second reader finds the end.
    if isinstance(sys.stdin, io.TextIOWrapper) and (sys.stdin.encoding, sys.stdin.errors) != _AS_FILES:
        sys.stdin.reconfigure(encoding=_AS_FILES[0], errors=_AS_FILES[1])
    return nullcontext(sys.stdin)


def holds_objects(lines: Iterable[str]) -> bool:
    """Says whether the first line is a JSON object: standard input, which has no name to tell, is JSONL then."""
    return next((line for line in lines if line.strip()), "").lstrip().startswith("{")


def json_of(line: str, where: str) -> Any:
    """Reads the JSON of a line. Raises `typer.BadParameter` naming `where` for what is none, or has a name twice."""
    try:
        return json_of_text(line)
    except ValueError as error:
        raise typer.BadParameter(f"{where} is no JSON: {error}") from error
