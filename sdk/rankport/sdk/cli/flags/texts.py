"""Texts of `rankport classify`: from arguments, and from files of texts or JSON lines."""

from collections.abc import Iterable

import typer

from rankport.protos.classes import ClassText
from rankport.sdk.cli.flags.lines import filled_lines, json_of

_SHOWN_CHARACTERS = 100


def texts_of_file(path: str) -> list[ClassText]:
    """Reads a file, a text or pair a line; "-" is standard input. Raises `typer.BadParameter` naming the line."""
    name = "stdin" if path == "-" else path
    return _parsed(filled_lines(path, "--file"), jsonl=path.endswith(".jsonl"), name=name)


def _parsed(lines: Iterable[str], *, jsonl: bool, name: str) -> list[ClassText]:
    numbered = [(number, line.rstrip("\r\n")) for number, line in enumerate(lines, 1) if line.strip()]
    return [_of_json(line, f"{name}, line {number}") if jsonl else line for number, line in numbered]


def _of_json(line: str, where: str) -> ClassText:
    match json_of(line, where):
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
