"""`Change`: what an entry of the stream says of an item.

id       key of the item
op       "put" (default) or "delete"
text     text to encode, of a put
version  whole number from 0 to 2^63 - 1, higher where newer; without it, the entry's place in the stream
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rankport.protos.errors import InvalidRequest
from rankport.runtime.store.token_spec import encoded_key

FIELDS: Final = frozenset({b"id", b"op", b"text", b"version"})
"""Fields of an entry."""
_MAX_VERSION = 2**63 - 1
_MAX_DIGITS = len(str(_MAX_VERSION))


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """Entry of the stream."""

    id: str  # milliseconds since 1970, a dash, a count
    fields: Mapping[bytes, bytes]
    deliveries: int = 1

    @property
    def written_ms(self) -> int:
        """When it came into the stream, milliseconds since 1970."""
        return int(self.id.partition("-")[0])


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Item's new text, or its deletion."""

    entry: Entry
    item: str
    text: str | None  # None: deleted
    version: int


def read_change(entry: Entry) -> Change:
    """Reads an entry. Raises `InvalidRequest`, which says what is wrong with it."""
    fields = entry.fields
    unknown = sorted(fields.keys() - FIELDS)
    if unknown:
        raise InvalidRequest(f"field {_shown(unknown[0])} is none of id, op, text, version")
    item = _text(fields, b"id")
    encoded_key(item)
    op = fields.get(b"op", b"put")
    if op not in (b"put", b"delete"):
        raise InvalidRequest(f"op {_shown(op)}: give put or delete")
    if (op == b"delete") == (b"text" in fields):
        raise InvalidRequest("a put has a text, a delete has none")
    text = None if op == b"delete" else _text(fields, b"text")
    if text is not None and not text.strip():
        raise InvalidRequest("the text is blank")
    return Change(entry, item, text, _version(entry))


def _version(entry: Entry) -> int:
    given = entry.fields.get(b"version")
    if given is None:
        milliseconds, _, count = entry.id.partition("-")
        place = int(milliseconds) * 1_000_000 + min(int(count), 999_999)
        if place > _MAX_VERSION:
            raise InvalidRequest(
                f"its place in the stream, {entry.id}, is no time in milliseconds, by which versions are told: give a "
                "version"
            )
        return place
    digits = given.lstrip(b"0") or b"0"
    if not given.isdigit() or len(digits) > _MAX_DIGITS or int(digits) > _MAX_VERSION:
        raise InvalidRequest(f"version {_shown(given)}: give a whole number from 0 to {_MAX_VERSION}")
    return int(digits)


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str:
    value = fields.get(name)
    if value is None:
        raise InvalidRequest(f"it has no {name.decode()}")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name.decode()} {_shown(value)} is not UTF-8") from error


def _shown(value: bytes) -> str:
    return repr(value[:40])[1:]
