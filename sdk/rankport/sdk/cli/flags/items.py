"""Items of `rankport score`: from arguments, and from files of texts or JSON lines."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import typer

from rankport.protos.arguments import checked_run
from rankport.protos.types import Item, Key

_SHOWN_CHARACTERS = 100


def from_arguments(items: Sequence[str], keys: bool) -> list[Item]:
    """Makes items of texts, or of keys of the token store."""
    return [Key(item) if keys else item for item in items]


def from_file(path: str, keys: bool) -> list[Item]:
    """Reads the items of a file, one a line; "-" is standard input. Raises `typer.BadParameter` naming the line."""
    try:
        if path == "-":
            lines = sys.stdin.readlines()
            return _parse(lines, keys, jsonl=_holds_objects(lines), name="stdin")
        with Path(path).open(encoding="utf-8") as stream:
            return _parse(stream, keys, jsonl=path.endswith(".jsonl"), name=path)
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--items {path}: {error}") from error


def _holds_objects(lines: Iterable[str]) -> bool:
    """Says whether the first line is a JSON object: standard input, which has no name to tell, is JSONL then."""
    return next((line for line in lines if line.strip()), "").lstrip().startswith("{")


def _parse(lines: Iterable[str], keys: bool, *, jsonl: bool, name: str) -> list[Item]:
    texts = [(number, line.rstrip("\r\n")) for number, line in enumerate(lines, 1) if line.strip()]
    if not jsonl:
        return from_arguments([text for _, text in texts], keys)
    return [_json_item(text, keys, f"{name}, line {number}") for number, text in texts]


def _json_item(line: str, keys: bool, where: str) -> Item:
    try:
        match json.loads(line):
            case str() as text:
                return Key(text) if keys else text
            case {"text": str() as text, **rest} if not rest:
                return text
            case {"key": str() as key, **rest} if not rest:
                return Key(key)
            case {"token_ids": list() as ids, **rest} if not rest:
                return checked_run(ids, "token_ids")
            case {"embeddings": list() as rows, **rest} if not rest:
                return np.array(rows, np.float64)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{where}: {error}") from error
    raise typer.BadParameter(
        f'{where}: {line[:_SHOWN_CHARACTERS]} is neither a text nor {{"text": …}}, {{"key": …}}, '
        f'{{"token_ids": …}} or {{"embeddings": …}}'
    )
