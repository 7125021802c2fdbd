"""Texts of `rankport classify`: from arguments, and from files of texts or JSON lines."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import typer

from rankport.protos.classes import ClassText

_SHOWN_CHARACTERS = 100


def texts_of_file(path: str) -> list[ClassText]:
    """Reads a file, a text or pair a line; "-" is standard input. Raises `typer.BadParameter` naming the line."""
    try:
        if path == "-":
            return _parsed(sys.stdin.readlines(), jsonl=False, name="stdin")
        with Path(path).open(encoding="utf-8") as stream:
            return _parsed(stream, jsonl=path.endswith(".jsonl"), name=path)
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--file {path}: {error}") from error


def _parsed(lines: Iterable[str], *, jsonl: bool, name: str) -> list[ClassText]:
    numbered = [(number, line.rstrip("\r\n")) for number, line in enumerate(lines, 1) if line.strip()]
    return [_of_json(line, f"{name}, line {number}") if jsonl else line for number, line in numbered]


def _of_json(line: str, where: str) -> ClassText:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise typer.BadParameter(f"{where}: {error}") from error
    match content:
        case str() as text:
            return text
        case [str() as first, str() as second]:
            return first, second
        case {"text": str() as text, **rest} if not rest:
            return text
        case {"texts": [str() as first, str() as second], **rest} if not rest:
            return first, second
        case {"token_ids": list() as ids, **rest} if not rest:
            return ids
    raise typer.BadParameter(
        f'{where}: {line[:_SHOWN_CHARACTERS]} is neither a text nor {{"text": …}}, {{"texts": [first, second]}} or '
        '{"token_ids": …}'
    )
