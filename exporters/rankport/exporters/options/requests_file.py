"""Files of requests, one JSON object a line: judged ones, and those that rounding is fitted to.

A judged line: {"prefix": "text" | {field: text} | [token ids], "items": ["text" | [token ids] | {"key": id}, ...],
"gains": [number, ...]}. Requests to calibrate on are the same without gains, and may have some.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Item, Key, Prefix


@dataclass(frozen=True, slots=True)
class JudgedRequest:
    """One prefix, its candidates, and how relevant each is."""

    prefix: Prefix
    items: tuple[Item, ...]
    gains: tuple[float, ...]
    place: str  # file and line


@dataclass(frozen=True, slots=True)
class RealRequest:
    """A prefix and its items, to calibrate on."""

    prefix: Prefix
    items: tuple[Item, ...]
    place: str  # file and line


def read_judged(path: Path) -> list[JudgedRequest]:
    """Reads judged requests. Raises InvalidRequest naming the line and what is wrong with it."""
    return [_parse_judged(line, place) for line, place in _read_lines(path, "judged requests")]


def _parse_judged(line: str, place: str) -> JudgedRequest:
    row = _parse_line(line, place)
    if not isinstance(row, dict) or set(row) != {"prefix", "items", "gains"}:
        raise InvalidRequest(f"{place}: needs exactly the keys prefix, items and gains")
    if not isinstance(row["items"], list) or not isinstance(row["gains"], list):
        raise InvalidRequest(f"{place}: items and gains must be lists")
    if len(row["items"]) != len(row["gains"]):
        raise InvalidRequest(f"{place}: {len(row['items'])} items but {len(row['gains'])} gains")
    if not all(_is_gain(gain) for gain in row["gains"]):
        raise InvalidRequest(f"{place}: gains must be numbers from 0 on, not {row['gains']}")
    if not any(gain > 0 for gain in row["gains"]):
        raise InvalidRequest(
            f"{place}: no item has a positive gain, so NDCG is undefined: leave the request out"
        )
    items = tuple(_parse_item(item, place) for item in row["items"])
    return JudgedRequest(_parse_prefix(row["prefix"], place), items, tuple(row["gains"]), place)


def _is_gain(gain: object) -> bool:
    return isinstance(gain, int | float) and not isinstance(gain, bool) and 0 <= gain < float("inf")


def read_requests(path: Path) -> list[RealRequest]:
    """Reads requests to calibrate on; judged ones serve too. Raises InvalidRequest naming the line."""
    return [_parse_request(line, place) for line, place in _read_lines(path, "calibration requests")]


def _parse_request(line: str, place: str) -> RealRequest:
    row = _parse_line(line, place)
    if not isinstance(row, dict) or not {"prefix", "items"} <= set(row) <= {"prefix", "items", "gains"}:
        raise InvalidRequest(f"{place}: needs the keys prefix and items (and may have gains)")
    if not isinstance(row["items"], list) or not row["items"]:
        raise InvalidRequest(f"{place}: items must be a list of at least one item")
    items = tuple(_parse_item(item, place) for item in row["items"])
    return RealRequest(_parse_prefix(row["prefix"], place), items, place)


def file_sha256(path: Path) -> str:
    """Hashes a whole file of requests. Raises InvalidRequest if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InvalidRequest(f"calibration requests {str(path)!r} cannot be read: {error}") from error


def _read_lines(path: Path, what: str) -> list[tuple[str, str]]:
    """Reads the lines that are not empty, each with its place (file and line). `what` names the file in messages.

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


def _parse_line(line: str, place: str) -> object:
    """Parses the JSON of a line. Raises InvalidRequest."""
    try:
        parsed: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"{place}: not JSON: {error}") from error
    return parsed


def _parse_prefix(prefix: object, place: str) -> Prefix:
    """Checks the prefix of a line. Raises InvalidRequest."""
    if not isinstance(prefix, str | dict | list):
        raise InvalidRequest(f"{place}: prefix must be text, fields or token ids, not {prefix!r}")
    return prefix


def _parse_item(item: object, place: str) -> Item:
    """Checks an item of a line. Raises InvalidRequest."""
    if isinstance(item, dict):
        if set(item) != {"key"} or not isinstance(item["key"], str):
            raise InvalidRequest(f'{place}: an item object must be {{"key": "id"}}, not {item!r}')
        return Key(item["key"])
    if isinstance(item, str | list):
        return item
    raise InvalidRequest(f"{place}: an item must be text, token ids or a key, not {item!r}")
