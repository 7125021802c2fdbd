"""Lines of a file, or of standard input, that a flag names."""

import sys
from pathlib import Path

import typer

_BOM = "\ufeff"


def lines_of(path: str, option: str) -> list[str]:
    """Reads the lines with their ends; "-" is standard input, and a mark of UTF-8 at the start is no text.

    Raises `OSError` for a file that cannot be read, `typer.BadParameter` for one that is not UTF-8.
    """
    try:
        if path == "-":
            lines = sys.stdin.readlines()
        else:
            with Path(path).open(encoding="utf-8") as stream:
                lines = stream.readlines()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(
            f"{option} {path} is not UTF-8 ({error.reason} at byte {error.start}): convert it "
            "(iconv -f ENCODING -t UTF-8; ENCODING is UTF-16 for some editors and shells of Windows)"
        ) from error
    return [line.removeprefix(_BOM) if number == 0 else line for number, line in enumerate(lines)]
