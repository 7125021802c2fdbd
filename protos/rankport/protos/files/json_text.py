"""JSON that users write, lines of files most of all: an object that has a name twice is no JSON here.

Python's own reader takes the last of the two, and says nothing of the other.
"""

import json
from collections import Counter
from typing import Any


def json_of_text(text: str | bytes) -> Any:
    """Reads JSON. Raises `ValueError` for what is none, has a name twice in one object, or is nested too deeply."""
    try:
        return json.loads(text, object_pairs_hook=distinct_names)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def distinct_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object's mapping of its names and values. Raises `ValueError` for a name that comes twice."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        # Counted, as a client chooses how many there are.
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"key {twice!r:.80} is given twice in one object")
    return fields
