"""JSON objects as files of a checkpoint hold them."""

import json
from pathlib import Path
from typing import Any

from rankport.protos.errors import CheckpointError
from rankport.protos.files.json_text import distinct_names


def read_json_object(file: Path) -> dict[str, Any]:
    """Reads a JSON object from a file of a checkpoint. Raises CheckpointError."""
    if not file.is_file():
        raise CheckpointError(f"checkpoint {str(file.parent)!r} has no {file.name}")
    try:
        content = json.loads(
            file.read_text(encoding="utf-8"), object_pairs_hook=_object, parse_constant=_infinity
        )
    except ValueError as error:
        raise CheckpointError(f"{file} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a JSON {type(content).__name__}, must be an object")
    return content


def _object(pairs: list[tuple[str, Any]]) -> object:
    """Makes an object; transformers writes infinities, which JSON lacks, as {"__float__": "Infinity"}."""
    part = distinct_names(pairs)
    return float(part["__float__"]) if set(part) == {"__float__"} else part


def _infinity(name: str) -> float:
    """Reads the infinities that transformers wrote before; no field of a checkpoint is NaN."""
    if name == "NaN":
        raise ValueError("NaN is no value of a field")
    return float(name)
