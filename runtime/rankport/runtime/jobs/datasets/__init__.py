"""Encode jobs whose tokens go to a dataset: windows of rows to parts, here or on the actors of a Ray cluster."""

from typing import Literal

DATASET_FILE = "_dataset.json"
"""Name of the file that says which parts are a dataset's."""

DatasetFormat = Literal["parquet", "arrow", "lance"]
"""Format of a dataset's parts."""
