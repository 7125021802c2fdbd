"""Files of parts in Parquet and Arrow IPC, and what a format of parts must do (`lance_parts` is another).

Owns how a part becomes durable, whole or not there, and what makes parts one dataset of their format. What is in a
part is `parts`'s.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

_ARROW_ROWS = 4096  # of a batch in a file of Arrow's


class PartFiles(Protocol):
    """Files of parts in a format. Reading raises OSError or pa.ArrowException, writing OSError."""

    suffix: str  # of a part's name

    def write(self, path: Path, table: pa.Table) -> None:
        """Writes a part, durably, so that it is whole or not there."""

    def is_whole(self, path: Path) -> bool:
        """Says whether the part is there."""

    def schema(self, path: Path) -> pa.Schema:
        """Reads a part's schema, with its metadata."""

    def count(self, path: Path) -> int:
        """Reads the number of a part's rows."""

    def batches(self, path: Path, rows: int) -> Iterator[pa.RecordBatch]:
        """Yields a part's rows in order, at most so many at a time."""

    def join(self, folder: Path, parts: Sequence[Path], schema: pa.Schema) -> None:
        """Makes the parts of a folder, in order, the one dataset that readers of the format see in it."""

    def tidy(self, folder: Path) -> None:
        """Deletes what only a dataset before needed, beside parts, once nobody is led to that any more."""


class ParquetFiles:
    """Parquet: a part is a file."""

    suffix = ".parquet"

    def write(self, path: Path, table: pa.Table) -> None:
        # Vectors hardly compress; dictionaries of them cost time and gain nothing.
        options = {"compression": "none", "use_dictionary": False, "write_statistics": ["id"]}
        write_durably(path, lambda stream: pq.write_table(table, stream, write_page_checksum=True, **options))

    def is_whole(self, path: Path) -> bool:
        return path.is_file()

    def schema(self, path: Path) -> pa.Schema:
        return pq.read_schema(path)

    def count(self, path: Path) -> int:
        return int(pq.read_metadata(path).num_rows)

    def batches(self, path: Path, rows: int) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            yield from file.iter_batches(rows)

    def join(self, folder: Path, parts: Sequence[Path], schema: pa.Schema) -> None:
        """Does nothing: a folder of Parquet is a dataset."""

    def tidy(self, folder: Path) -> None:
        """Does nothing: there is nothing beside parts."""


class ArrowFiles:
    """Arrow IPC: a part is a file that is mapped, not parsed."""

    suffix = ".arrow"

    def write(self, path: Path, table: pa.Table) -> None:
        def fill(stream: BinaryIO) -> None:
            with pa.ipc.new_file(stream, table.schema) as writer:
                writer.write_table(table, max_chunksize=_ARROW_ROWS)

        write_durably(path, fill)

    def is_whole(self, path: Path) -> bool:
        return path.is_file()

    def schema(self, path: Path) -> pa.Schema:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).schema

    def count(self, path: Path) -> int:
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            return sum(file.get_batch(index).num_rows for index in range(file.num_record_batches))

    def batches(self, path: Path, rows: int) -> Iterator[pa.RecordBatch]:
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            for index in range(file.num_record_batches):
                batch = file.get_batch(index)
                yield from (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))

    def join(self, folder: Path, parts: Sequence[Path], schema: pa.Schema) -> None:
        """Does nothing: a folder of Arrow files is a dataset."""

    def tidy(self, folder: Path) -> None:
        """Does nothing: there is nothing beside parts."""


def write_durably(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Writes a file beside its place and renames it, so that it is whole or not there. Raises OSError.

    Its name is durable by `sync_names`.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        beside.unlink(missing_ok=True)  # of a process that was killed, or a link to elsewhere
        with beside.open("xb") as stream:
            fill(stream)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
