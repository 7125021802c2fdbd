"""Encode jobs whose tokens go to a dataset: windows of rows to parts, here or on the actors of a Ray cluster."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rankport.protos.errors import StoreError

DATASET_FILE = "_dataset.json"
"""Name of the file that says which parts are a dataset's."""
_NAME_BEFORE = "dataset.json"  # which broke readers of whole folders

DatasetFormat = Literal["parquet", "arrow", "lance"]
"""Format of a dataset's parts."""
DatasetDtype = Literal["float16", "float32"]
"""Type of a dataset's tokens."""


def format_of_folder(folder: str | os.PathLike[str]) -> DatasetFormat:
    """Tells the format of a dataset by its folder's name: Parquet where that says none."""
    named: dict[str, DatasetFormat] = {".arrow": "arrow", ".lance": "lance"}
    return named.get(Path(folder).suffix.lower(), "parquet")


def dataset_content(folder: Path) -> Mapping[str, Any]:
    """Reads what a dataset says of itself; nothing where none stands there.

    Raises `StoreError` for one whose file has its name of before.
    """
    content = _content(folder / DATASET_FILE)
    if not content and _content(folder / _NAME_BEFORE):
        raise StoreError(
            f"{folder} is a dataset whose file {_NAME_BEFORE} is {DATASET_FILE} by now: rename it, nothing else changed"
        )
    return content


def _content(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    ours = isinstance(content, dict) and content.get("format") == "rankport-dataset"
    return content if ours else {}
