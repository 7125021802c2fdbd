"""JSON as strictly as a bundle's files are read: UTF-8, one object, no key twice, numbers and text that JSON can write.

Owns the encoding; what the fields mean is their schema's.
"""

import json
from typing import Any, NoReturn

from rankport.protos.errors import BundleError
from rankport.protos.files.json_text import distinct_names

_SHOWN_CHARACTERS = 80


def strict_json(data: bytes, name: str) -> dict[str, Any]:
    """Reads the object in `data`. Raises `BundleError`, which calls the file `name`."""
    try:
        fields = json.loads(data.decode(), object_pairs_hook=_distinct, parse_constant=_refuse_constant)
        _refuse_half_characters(fields)
    except RecursionError:
        raise BundleError(f"{name}: nested too deeply") from None
    except BundleError as error:
        raise BundleError(f"{name}: {error}") from None
    except ValueError as error:
        raise BundleError(f"{name}: not JSON in UTF-8: {error}") from None
    if not isinstance(fields, dict):
        raise BundleError(f"{name}: must be a JSON object, is {shown(fields)}")
    return fields


def shown(value: object) -> str:
    """Writes a value as an error shows it: never long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    try:
        return distinct_names(pairs)
    except ValueError as error:
        raise BundleError(str(error)) from None


def _refuse_half_characters(fields: object) -> None:
    """Refuses an escape such as \\ud800 alone: valid JSON but no text, it could not be printed or written again."""
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - 30) : error.end]
        raise BundleError(f"half of a character at the end of {near!a}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
