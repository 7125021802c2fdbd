"""Formats of a dataset's parts, by their names."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from rankport.protos.errors import StoreError
from rankport.protos.reasons import reason_of
from rankport.runtime.jobs.datasets import DatasetFormat
from rankport.runtime.jobs.datasets.lance_parts import LanceFiles
from rankport.runtime.jobs.datasets.part_files import ArrowFiles, ParquetFiles, PartFiles


def files_in(part_format: DatasetFormat) -> PartFiles:
    """Gives the files of a format. Raises `MissingExtra` for Lance, where it is not installed."""
    match part_format:
        case "parquet":
            return ParquetFiles()
        case "arrow":
            return ArrowFiles()
        case "lance":
            return LanceFiles()


SUFFIXES: Mapping[str, DatasetFormat] = {
    ParquetFiles.suffix: "parquet",
    ArrowFiles.suffix: "arrow",
    LanceFiles.suffix: "lance",
}
"""Format of a part by the end of its name."""


def format_of_part(name: str) -> DatasetFormat:
    """Tells the format of a part. Raises `StoreError` for a name of none."""
    for suffix, part_format in SUFFIXES.items():
        if name.endswith(suffix):
            return part_format
    raise StoreError(f"{name} is no part of a dataset: parts end in {', '.join(SUFFIXES)}")


def parts_in(folder: Path) -> list[Path]:
    """Lists the parts of all formats in a folder, by name."""
    return sorted(path for path in folder.glob("part-*") if path.name.endswith(tuple(SUFFIXES)))


def write_part(path: Path, table: pa.Table) -> None:
    """Writes a part, durably, so that it is whole or not there. Raises `StoreError` where the disk does not take it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files_in(format_of_part(path.name)).write(path, table)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {reason_of(error)}") from error
