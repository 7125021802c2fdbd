"""`ItemsFile`: rows of item id and text from CSV, JSONL, Parquet, Arrow or Lance, streamed; a bad row ends no other.

Owns what is checked of a file, before its first row and while it is read. `row_readers` has the formats, `item_rows`
what makes a row.

A row is bad where it cannot be read (broken JSON, fields too few or too many, bytes that are not UTF-8, a length over
the limit). A file that breaks as a whole (its compression, its Parquet pages, a quote in its CSV that leaves open where
the next row is) or changes while it is read is an error: nobody knows what lies behind it.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.reasons import reason_of
from rankport.runtime.jobs.config import FileColumns, FileFormat
from rankport.runtime.jobs.files.folders import Partitions, format_of
from rankport.runtime.jobs.rows.arrow_readers import ArrowReader, LanceReader, ParquetReader
from rankport.runtime.jobs.rows.column_types import check_columns
from rankport.runtime.jobs.rows.item_rows import ItemRow, RowForm
from rankport.runtime.jobs.rows.records import WHOLE, BadRow, RowReader, Span
from rankport.runtime.jobs.rows.row_readers import CsvReader, DeadLettersReader, JsonlReader

FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
_FILE_ERRORS = OSError, EOFError, zlib.error
_ROWS_A_LOOK = 4096  # at whether the file is the one that was opened

Stamp = tuple[int, int]
"""Size of a file, and the time of its last write in nanoseconds."""


@dataclass(frozen=True, slots=True)
class ItemsFile:
    """File that was checked: it exists and has the columns. Make it with `open`; every `rows()` reads it anew."""

    path: Path
    form: RowForm
    reader: RowReader
    lacks: frozenset[str] = frozenset()  # columns that none of its rows has, where it may

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        columns: FileColumns,
        *,
        of_several: bool = False,
        partitions: Partitions = (),
    ) -> "ItemsFile":
        """Checks the file and its columns. Its name tells the format, unless `columns` do; a shard is not its own.

        A row of CSV or JSONL over `max_row_length` (characters, or bytes of JSONL) is a bad row. One of several files,
        but for CSV, may lack other columns than the id, which others must have: look at its `lacks`. What it has not
        may stand in its `partitions`.

        Raises:
            NotFound: no such file.
            InvalidRequest: unknown format, a file that cannot be read as such, a column that is missing or there
                twice (the message lists the columns), or of a type that has no ids, or texts.
        """
        file = Path(path)
        try:
            file.stat()
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise NotFound(f"no items file {file}") from error
        except OSError as error:
            raise InvalidRequest(f"{file} cannot be read: {reason_of(error)}") from error
        if file.is_dir() and _format(file, columns.file_format) != "lance":
            raise NotFound(f"{file} is a folder: give a file")
        form = RowForm.of(columns)
        reader = _reader(file, columns.file_format, columns.max_row_length)
        try:
            stored, types = reader.columns(form.columns), reader.types()
        except _FILE_ERRORS as error:
            raise InvalidRequest(f"{file} cannot be read: {reason_of(error)}") from error
        said = tuple((name, value) for name, value in partitions if name not in stored)
        there = (*stored, *(name for name, _ in said))
        may_lack = of_several and not isinstance(reader, CsvReader)
        lacks = frozenset(form.other_columns).difference(there) if may_lack else frozenset()
        needed = [name for name in form.other_columns if name not in lacks]
        check_columns(file, there, types, form.id_column, needed)
        said = tuple((name, value) for name, value in said if name in form.columns)
        if {*form.columns} <= {*dict(said), *lacks}:
            raise InvalidRequest(f"{file}: of the columns that are read its rows have none, but its folders")
        return cls(file, replace(form, partitions=said), reader, lacks)

    def rows(self, span: Span = WHOLE, stamp: Stamp | None = None) -> Iterator[ItemRow | BadRow]:
        """Yields the rows, or those of a span, in order.

        Raises:
            InvalidRequest: the file breaks off, or was changed since its `stamp` was taken; it names the last row read.
        """
        line = 0
        try:
            if stamp is not None and stamp != self.stamp():
                raise self._changed(line)
            state = _state(self.path)
            elsewhere = {*dict(self.form.partitions), *self.lacks}
            own = tuple(name for name in self.form.columns if name not in elsewhere)
            for number, record in enumerate(self.reader.records(own, span)):
                if number % _ROWS_A_LOOK == 0:
                    self._check_unchanged(state, line)
                line = record.line
                yield record if isinstance(record, BadRow) else self.form.row(record)
            self._check_unchanged(state, line)
        except _FILE_ERRORS as error:
            raise InvalidRequest(f"{self.path} breaks off after row {line}: {error}") from error

    def spans(self, rows: int) -> Sequence[Span]:
        """Cuts the file into spans of so many rows, or one of all where nobody can tell where a row starts. Raises
        `InvalidRequest` for a file that cannot be read.
        """
        try:
            return self.reader.spans(rows)
        except _FILE_ERRORS as error:
            raise InvalidRequest(f"{self.path} cannot be read: {reason_of(error)}") from error

    def stamp(self) -> Stamp:
        """Returns what differs once the file is written to, on whichever machine it is looked at."""
        stat = self.path.stat()
        return stat.st_size, stat.st_mtime_ns

    def _check_unchanged(self, state: tuple[int, ...], line: int) -> None:
        if state != _state(self.path):
            raise self._changed(line)

    def _changed(self, line: int) -> InvalidRequest:
        return InvalidRequest(
            f"{self.path} was changed while it was read, by row {line}: rows of two files may have mixed; "
            "run again once it stands still"
        )

    def count(self) -> int | None:
        """Counts rows, roughly, for a progress bar; None where counting would cost too much."""
        try:
            return self.reader.count()
        except _FILE_ERRORS:
            return None  # reading the rows meets the same error, and reports it


def _format(path: Path, file_format: str | None) -> str | None:
    return file_format or format_of(path.name)


def _reader(path: Path, file_format: str | None, max_row_length: int) -> RowReader:
    match _format(path, file_format):
        case "csv":
            return CsvReader(path, max_row_length)
        case "jsonl":
            return JsonlReader(path, max_row_length)
        case "dead-letters":
            return DeadLettersReader(path, max_row_length)
        case "parquet":
            return ParquetReader(path)
        case "arrow":
            return ArrowReader(path)
        case "lance":
            return LanceReader(path)
        case None:
            raise InvalidRequest(
                f"{path}: its name tells no format; give it with file_format (--format), one of {', '.join(FORMATS)}"
            )
        case other:
            raise InvalidRequest(f"unknown format {other!r}; there are {', '.join(FORMATS)}")


def _state(path: Path) -> tuple[int, ...]:
    """Returns what differs once a file is written to, or another stands in its place."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
