"""Count of what a message holds, before it is parsed: an empty text has two bytes on the wire, and thirty in memory."""

from functools import cache

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor

_FIXED = frozenset(
    (
        FieldDescriptor.TYPE_DOUBLE,
        FieldDescriptor.TYPE_FLOAT,
        FieldDescriptor.TYPE_FIXED32,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED32,
        FieldDescriptor.TYPE_SFIXED64,
        FieldDescriptor.TYPE_STRING,
        FieldDescriptor.TYPE_BYTES,
    )
)


def has_more(data: bytes, kind: Descriptor, fields: int, numbers: int) -> bool:
    """Says whether a message of a kind has more than so many fields, at any depth, or more packed numbers.

    Gives up at the first one too many. What is cut off or no protobuf is left to the parser: then False.
    """
    parts = [(0, len(data), kind)]
    while parts:
        place, end, kind = parts.pop()
        messages, packed = _fields_of(kind)
        while place < end:
            fields -= 1
            tag, place = _varint(data, place, end)
            match tag & 7:
                case 0:
                    _, place = _varint(data, place, end)
                case 1:
                    place += 8
                case 5:
                    place += 4
                case 2:
                    length, place = _varint(data, place, end)
                    if tag >> 3 in messages:
                        parts.append((place, min(place + length, end), messages[tag >> 3]))
                    elif tag >> 3 in packed:
                        numbers -= _packed(data, place, min(place + length, end))
                    place += length
            if fields < 0 or numbers < 0:
                return True
    return False


@cache
def _fields_of(kind: Descriptor) -> tuple[dict[int, Descriptor], frozenset[int]]:
    """Lists the fields that are messages, and those that may be packed numbers of any length."""
    messages = {field.number: field.message_type for field in kind.fields if field.message_type is not None}
    numbers = (
        field.number for field in kind.fields if field.message_type is None and field.type not in _FIXED
    )
    return messages, frozenset(numbers)


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """Reads a number, and where it ends; past the end of the data nothing more is found."""
    value = shift = 0
    while place < end:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            break
    return 0, end


def _packed(data: bytes, start: int, end: int) -> int:
    """Counts numbers of varying length: each ends in a byte below 128."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8, max(end - start, 0), start) < 128))
