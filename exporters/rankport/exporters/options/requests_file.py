"""Files of requests, one JSON object a line: what judged requests and calibration requests share."""

import json
from pathlib import Path
from typing import Any

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Item, Key, Prefix


def read_lines(path: Path, what: str) -> list[tuple[str, str]]:
    """The lines that are not empty, each with its place (file and line). `what` names the file in messages.

    Raises InvalidRequest if the file cannot be read or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{what} {str(path)!r} cannot be read: {error}") from error
    placed = [(line, f"{path.name} line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not placed:
        raise InvalidRequest(f"{what} {str(path)!r}: the file holds no request")
    return placed


def parse_line(line: str, place: str) -> object:
    """The JSON of a line. Raises InvalidRequest."""
    try:
        parsed: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"{place}: not JSON: {error}") from error
    return parsed


def parse_prefix(prefix: object, place: str) -> Prefix:
    """The prefix of a line. Raises InvalidRequest."""
    if not isinstance(prefix, str | dict | list):
        raise InvalidRequest(f"{place}: prefix must be text, fields or token ids, not {prefix!r}")
    return prefix


def parse_item(item: object, place: str) -> Item:
    """An item of a line. Raises InvalidRequest."""
    if isinstance(item, dict):
        if set(item) != {"key"} or not isinstance(item["key"], str):
            raise InvalidRequest(f'{place}: an item object must be {{"key": "id"}}, not {item!r}')
        return Key(item["key"])
    if isinstance(item, str | list):
        return item
    raise InvalidRequest(f"{place}: an item must be text, token ids or a key, not {item!r}")
