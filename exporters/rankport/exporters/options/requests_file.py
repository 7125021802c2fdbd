"""Files of requests, one JSON object a line: judged ones, and those that rounding is fitted to.

A judged line: {"prefix": "text" | {field: text} | [token ids], "items": ["text" | [token ids] | {"key": id}, ...],
"gains": [number, ...]}. Requests to calibrate on are the same without gains, and may have some.
Owns what a line may be; whether it fits a prompt and a store, `check_requests` knows.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rankport.exporters.options.bad_lines import read_lines, repeat_of
from rankport.protos.errors import InvalidRequest
from rankport.protos.reasons import reason_of
from rankport.protos.types import Item, Key, Prefix
from rankport.protos.wording import counted, keys_amiss


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
    """Reads judged requests. Raises InvalidRequest naming every bad line and what is wrong with it."""
    return read_lines(path, "judged requests", _parse_judged)


def _parse_judged(row: object, place: str) -> JudgedRequest:
    if not isinstance(row, dict) or set(row) != {"prefix", "items", "gains"}:
        keys = ("prefix", "items", "gains")
        raise InvalidRequest(f"needs exactly the keys prefix, items and gains{keys_amiss(row, keys, keys)}")
    if not isinstance(row["items"], list) or not isinstance(row["gains"], list):
        raise InvalidRequest("items and gains must be lists")
    if len(row["items"]) != len(row["gains"]):
        raise InvalidRequest(f"{counted(len(row['items']), 'item')} but {len(row['gains'])} gains")
    if not all(is_finite_number(gain) and gain >= 0 for gain in row["gains"]):
        raise InvalidRequest(f"gains must be numbers from 0 on, not {row['gains']}")
    if not any(gain > 0 for gain in row["gains"]):
        raise InvalidRequest("no item has a positive gain, so NDCG is undefined: leave the request out")
    items = parse_items(row["items"])
    repeated = repeat_of(row["items"])
    if repeated is not None:
        raise InvalidRequest(
            f"item {repeated[1]} repeats item {repeated[0]}, and would count twice: leave one out"
        )
    return JudgedRequest(parse_prefix(row["prefix"]), items, tuple(row["gains"]), place)


def read_requests(path: Path) -> list[RealRequest]:
    """Reads requests to calibrate on; judged ones serve too. Raises InvalidRequest naming every bad line."""
    return read_lines(path, "calibration requests", _parse_request)


def _parse_request(row: object, place: str) -> RealRequest:
    if not isinstance(row, dict) or not {"prefix", "items"} <= set(row) <= {"prefix", "items", "gains"}:
        told = keys_amiss(row, ("prefix", "items"), ("prefix", "items", "gains"))
        raise InvalidRequest(f"needs the keys prefix and items (and may have gains){told}")
    return RealRequest(parse_prefix(row["prefix"]), parse_items(row["items"]), place)


def file_sha256(path: Path, what: str = "calibration requests") -> str:
    """Hashes a whole file of requests; `what` names it. Raises InvalidRequest if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InvalidRequest(f"{what} {str(path)!r} cannot be read: {reason_of(error)}") from error


def is_finite_number(value: object) -> bool:
    """Says whether JSON's value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def parse_prefix(prefix: object) -> Prefix:
    """Checks the prefix of a line. Raises InvalidRequest."""
    if isinstance(prefix, dict):
        wrong = [name for name, text in prefix.items() if not isinstance(text, str)]
        if wrong:
            raise InvalidRequest(f"prefix field {wrong[0]!r} is {prefix[wrong[0]]!r}, must be text")
        return prefix
    if isinstance(prefix, str):
        return prefix
    if isinstance(prefix, list):
        return _parse_ids(prefix, "prefix")
    raise InvalidRequest(f"prefix must be text, fields or token ids, not {prefix!r}")


def parse_items(items: object) -> tuple[Item, ...]:
    """Checks the items of a line. Raises InvalidRequest naming the first that is none."""
    if not isinstance(items, list) or not items:
        raise InvalidRequest("items must be a list of at least one item")
    return tuple(parse_item(item, f"item {index}") for index, item in enumerate(items))


def parse_item(item: object, where: str) -> Item:
    """Checks an item; `where` names it in messages. Raises InvalidRequest."""
    if isinstance(item, dict):
        if set(item) != {"key"} or not isinstance(item["key"], str) or not item["key"]:
            raise InvalidRequest(f'{where}: an item object must be {{"key": "id"}}, not {item!r}')
        return Key(item["key"])
    if isinstance(item, str):
        if not item.strip():
            raise InvalidRequest(f"{where} is an empty text: leave it out")
        return item
    if isinstance(item, list):
        if not item:
            raise InvalidRequest(f"{where} has no token ids: leave it out")
        return _parse_ids(item, where)
    raise InvalidRequest(f"{where}: must be text, token ids or a key, not {item!r}")


def _parse_ids(ids: list[object], where: str) -> Sequence[int]:
    wrong = [value for value in ids if not isinstance(value, int) or isinstance(value, bool) or value < 0]
    if wrong:
        raise InvalidRequest(f"{where}: token ids are whole numbers from 0 on, not {wrong[0]!r}")
    return [value for value in ids if isinstance(value, int)]
