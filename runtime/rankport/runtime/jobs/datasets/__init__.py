"""Encode jobs whose tokens go to a dataset: windows of rows to parts, here or on the actors of a Ray cluster."""

DATASET_FILE = "dataset.json"
"""Name of the file that says which parts are a dataset's."""
