"""JSON of answers, large ones in parts: a thread that writes one leaves others their turn between two parts.

The library writes a whole body in one step, which no other thread interrupts: .7 s of 21 MB.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

_PART_BYTES = 2**16
_NUMBER_BYTES = 20  # of a float in full
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def json_text(body: object) -> str:
    """Writes a body, of which numbers that are not finite are no part. Raises `ValueError` for those."""
    return "".join(json_parts(body))


def about_bytes(body: object) -> int:
    """Estimates the size of a body as JSON: the values of a list are as large as its first."""
    if isinstance(body, str):
        return len(body) + 2
    if isinstance(body, Mapping):
        return 2 + sum(len(name) + 4 + about_bytes(value) for name, value in body.items())
    if isinstance(body, list | tuple):
        return 2 + len(body) * (about_bytes(body[0]) + 1) if body else 2
    return _NUMBER_BYTES


def json_parts(body: object, part_bytes: int = _PART_BYTES) -> Iterator[str]:
    """Writes a body in parts of about so many bytes. Raises as `json_text`."""
    if about_bytes(body) <= part_bytes:
        yield _encode(body)
    elif isinstance(body, Mapping):
        yield "{"
        for place, (name, value) in enumerate(body.items()):
            yield f"{',' if place else ''}{_encode(name)}:"
            yield from json_parts(value, part_bytes)
        yield "}"
    elif isinstance(body, list | tuple) and body:
        yield "["
        yield from _values(body, part_bytes)
        yield "]"
    else:
        yield _encode(body)


def _values(values: Sequence[object], part_bytes: int) -> Iterator[str]:
    """Writes the values of a list, as many at once as make a part."""
    at_once = part_bytes // (about_bytes(values[0]) + 1)
    if at_once > 1:
        for start in range(0, len(values), at_once):
            yield "," if start else ""
            yield _encode(values[start : start + at_once])[1:-1]
        return
    for place, value in enumerate(values):
        yield "," if place else ""
        yield from json_parts(value, part_bytes)
