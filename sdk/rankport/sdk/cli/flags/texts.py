"""Texts of `rankport classify` and `rankport tag`: from files of texts or JSON lines."""

from collections.abc import Callable
from typing import TypeVar

import typer

from rankport.protos.classes import ClassText
from rankport.sdk.cli.flags.lines import filled_lines, holds_objects, json_of

TextT = TypeVar("TextT")

_SHOWN_CHARACTERS = 100


def texts_of_file(path: str) -> list[ClassText]:
    """Reads a file, a text or pair a line; "-" is standard input. Raises `typer.BadParameter` naming the line."""
    return _parsed(path, "--file", _of_json)


def tagged_texts_of_file(path: str) -> list[str | list[str]]:
    """Reads a file, a text or the words of one a line, as `texts_of_file` does."""
    return _parsed(path, "--texts", _tagged_of_json)


def _parsed(path: str, option: str, of_json: Callable[[str, str], TextT]) -> list[str | TextT]:
    lines, name = filled_lines(path, option), "stdin" if path == "-" else path
    jsonl = holds_objects(lines) if path == "-" else path.endswith(".jsonl")
    numbered = [(number, line.rstrip("\r\n")) for number, line in enumerate(lines, 1) if line.strip()]
    return [of_json(line, f"{name}, line {number}") if jsonl else line for number, line in numbered]


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


def _tagged_of_json(line: str, where: str) -> str | list[str]:
    match json_of(line, where):
        case str() as text:
            return text
        case {"text": str() as text, **rest} if not rest:
            return text
        case list() as words if words and all(isinstance(word, str) for word in words):
            return words
    raise typer.BadParameter(
        f'{where}: {line[:_SHOWN_CHARACTERS]} is neither a text nor {{"text": …}} or a list of words'
    )
