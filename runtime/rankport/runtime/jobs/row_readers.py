"""Readers of CSV, JSONL and Parquet: records by column name, one at a time, bad ones marked and passed over.

Owns the formats and gzip (told by its magic bytes, not by the file's name). Which columns matter, and what
their values must be, is `items_file`'s.
"""

import csv
import gzip
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from rankport.protos.errors import InvalidRequest

_GZIP_MAGIC = b"\x1f\x8b"
_SAMPLED_ROWS = 100  # of a JSONL file, to learn its columns
_CHUNK_BYTES = 2**20
_MAX_COUNTED_GZIP_BYTES = 64 * 2**20
_PARQUET_BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Record:
    """Row as read."""

    line: int  # where it starts, from 1; a Parquet file's row number, from 1
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class BadRow:
    """Row that cannot be used."""

    line: int  # as in `Record`
    reason: str
    id: str | None = None  # where it is known


class RowReader(Protocol):
    """Reader of a file in one format. Errors of the file as a whole are OSError, EOFError or zlib.error."""

    def columns(self) -> tuple[str, ...]:
        """Lists the columns there are. Raises InvalidRequest where there are none to be found."""

    def records(self, columns: Sequence[str]) -> Iterator[Record | BadRow]:
        """Yields the rows in order; a record has at least those of `columns` that its row has."""

    def count(self) -> int | None:
        """Counts rows, roughly: blank lines and stray quotes mislead it. None where counting costs too much."""


class CsvReader:
    """RFC 4180 with a header line, UTF-8, commas. The csv module limits a field to 131,072 characters.

    After a record with broken quoting, reading goes on at the line after the one it starts on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def columns(self) -> tuple[str, ...]:
        with _open_text(self._path) as stream:
            return _csv_header(self._path, csv.reader(stream, strict=True))

    def records(self, columns: Sequence[str]) -> Iterator[Record | BadRow]:
        with _open_text(self._path) as stream:
            lines = _RewindableLines(stream)
            reader = csv.reader(lines, strict=True)
            header = _csv_header(self._path, reader)
            while True:
                line = lines.start_record()
                try:
                    fields = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    lines.rewind_to_second()
                    yield BadRow(line, f"broken CSV: {error}")
                else:
                    if fields:
                        yield _csv_record(line, header, fields)

    def count(self) -> int | None:
        return _count(self._path, quote=b'"', header_lines=1)


class JsonlReader:
    """Reader of JSON objects, one a line, UTF-8."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def columns(self) -> tuple[str, ...]:
        # Not the first object alone: a column may be left out where it is empty.
        sample = islice(self.records(()), _SAMPLED_ROWS)
        names = {name: None for record in sample if isinstance(record, Record) for name in record.values}
        if not names:
            raise InvalidRequest(f"{self._path} has no JSON object in its first {_SAMPLED_ROWS} rows")
        return tuple(names)

    def records(self, columns: Sequence[str]) -> Iterator[Record | BadRow]:
        with _open(self._path) as stream:
            for line, text in enumerate(stream, 1):
                if not text.isspace():
                    yield _json_record(line, text)

    def count(self) -> int | None:
        return _count(self._path, quote=None, header_lines=0)


class ParquetReader:
    """Reader of Parquet. Needs pyarrow, the extra `rankport[parquet]`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def columns(self) -> tuple[str, ...]:
        with _parquet_file(self._path) as file:
            return tuple(file.schema_arrow.names)

    def records(self, columns: Sequence[str]) -> Iterator[Record | BadRow]:
        with _parquet_file(self._path) as file:
            row = 0
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS, columns=list(columns)):
                for index in range(batch.num_rows):
                    row += 1
                    yield _parquet_record(row, batch, index, columns)

    def count(self) -> int | None:
        with _parquet_file(self._path) as file:
            return int(file.metadata.num_rows)


class _RewindableLines:
    """Lines for `csv.reader`; those of a record from its second on can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._given_back: deque[str] = deque()
        self._record: list[str] = []
        self._number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._given_back.popleft() if self._given_back else next(self._lines)
        self._record.append(line)
        self._number += 1
        return line

    def start_record(self) -> int:
        """Forgets the record before; returns the number of the next line."""
        self._record.clear()
        return self._number + 1

    def rewind_to_second(self) -> None:
        """Gives back the lines of the record but the first."""
        rest = self._record[1:]
        self._given_back.extendleft(reversed(rest))
        self._number -= len(rest)


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        compressed = stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return cast("BinaryIO", gzip.open(path)) if compressed else path.open("rb")


@contextmanager
def _open_text(path: Path) -> Iterator[TextIOWrapper]:
    # Bytes that are not UTF-8 become lone surrogates, which mark the fields they are in.
    with (
        _open(path) as stream,
        TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        yield text


def _csv_header(path: Path, reader: Iterator[list[str]]) -> tuple[str, ...]:
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise InvalidRequest(f"{path}: its header line is broken CSV: {error}") from error
    if not header:
        raise InvalidRequest(f"{path} has no header line with the names of its columns")
    return tuple(header)


def _csv_record(line: int, header: Sequence[str], fields: Sequence[str]) -> Record | BadRow:
    if len(fields) != len(header):
        return BadRow(line, f"{len(fields)} fields where the header has {len(header)}")
    return Record(line, dict(zip(header, fields, strict=True)))


def _json_record(line: int, text: bytes) -> Record | BadRow:
    try:
        value = json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return BadRow(line, f"bytes that are not UTF-8: {error.reason} at byte {error.start}")
    except (ValueError, RecursionError) as error:
        return BadRow(line, f"broken JSON: {error}")
    if not isinstance(value, dict):
        return BadRow(line, f"a JSON {type(value).__name__} where an object is needed")
    return Record(line, value)


def _parquet_record(row: int, batch: Any, index: int, columns: Sequence[str]) -> Record | BadRow:
    try:
        return Record(row, {name: batch.column(name)[index].as_py() for name in columns})
    except UnicodeDecodeError as error:
        return BadRow(row, f"bytes that are not UTF-8: {error.reason} at byte {error.start}")


@contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InvalidRequest(f"reading {path} needs pyarrow: pip install 'rankport[parquet]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except pyarrow.ArrowException as error:
        raise InvalidRequest(f"{path} cannot be read as Parquet: {error}") from error


def _count(path: Path, *, quote: bytes | None, header_lines: int) -> int | None:
    """Counts line ends of a file, less its header; with `quote` only those not between two of these bytes."""
    with _open(path) as stream:
        if isinstance(stream, gzip.GzipFile) and path.stat().st_size > _MAX_COUNTED_GZIP_BYTES:
            return None
        lines, inside, last = 0, False, b"\n"
        while chunk := stream.read(_CHUNK_BYTES):
            last = chunk[-1:]
            parts = chunk.split(quote) if quote else [chunk]
            lines += sum(part.count(b"\n") for part in parts[inside::2])
            inside ^= len(parts) % 2 == 0
    return max(0, lines + (last != b"\n") - header_lines)
