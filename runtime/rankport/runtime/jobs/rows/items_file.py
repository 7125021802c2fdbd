"""`ItemsFile`: rows of item id and text from CSV, JSONL, Parquet, Arrow or Lance, streamed; a bad row ends no other.

Owns which columns make a row and when a row is bad; `row_readers` has the formats.

A row is bad where it cannot be read (broken JSON, fields too few or too many, bytes that are not UTF-8, a length over
the limit), where its id is missing, blank, too long, or of a type without one exact text, and where its text columns
are all blank or one is no text. A file that breaks as a whole (its compression, its Parquet pages, a quote in its CSV
that leaves open where the next row is) or changes while it is read is an error: nobody knows what lies behind it.

Ids are text, taken verbatim, or integers, decimals (with the digits of their column: 12.50), UUIDs, dates, times and
timestamps, as their text. A bool or a float is no id: 1, 1.0 and true are one item to some writers and three to others.
"""

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import get_args
from uuid import UUID

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.reasons import reason_of
from rankport.runtime.jobs.config import FileColumns, FileFormat
from rankport.runtime.jobs.files.folders import Partitions, format_of
from rankport.runtime.jobs.rows.arrow_readers import ArrowReader, LanceReader, ParquetReader
from rankport.runtime.jobs.rows.column_types import check_columns
from rankport.runtime.jobs.rows.records import (
    WHOLE,
    BadRow,
    Moment,
    Record,
    RowReader,
    Span,
    content_of,
)
from rankport.runtime.jobs.rows.row_readers import CsvReader, DeadLettersReader, JsonlReader
from rankport.runtime.jobs.rows.text_template import TextTemplate, joined
from rankport.runtime.store.token_spec import MAX_KEY_BYTES

__all__ = ["FORMATS", "BadRow", "FileFormat", "ItemRow", "ItemsFile"]

FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
_YES, _NO = frozenset({"true", "t", "yes", "y", "1"}), frozenset({"", "false", "f", "no", "n", "0"})
_FILE_ERRORS = OSError, EOFError, zlib.error
_ROWS_A_LOOK = 4096  # at whether the file is the one that was opened
_EXACT = (int, Decimal, UUID, Moment)  # types with one text each, beside text

Stamp = tuple[int, int]
"""Size of a file, and the time of its last write in nanoseconds."""


@dataclass(frozen=True, slots=True)
class ItemRow:
    """Item to encode."""

    line: int  # where it starts, from 1; a Parquet file's row number, from 1
    id: str
    text: str  # the text columns that are not blank, joined, or what a template makes of them
    deleted: bool = False  # to be deleted from the store
    file: str = ""  # where there are several
    values: Mapping[str, object] | None = field(
        default=None, compare=False, repr=False
    )  # of the columns read

    def bad(self, reason: str) -> BadRow:
        """Makes a bad row of it."""
        content = "" if self.values is None else content_of(self.values)
        return BadRow(self.line, reason, self.id, self.file, content)


@dataclass(frozen=True, slots=True)
class ItemsFile:
    """File that was checked: it exists and has the columns. Make it with `open`; every `rows()` reads it anew."""

    path: Path
    id_column: str
    text_columns: tuple[str, ...]
    separator: str
    reader: RowReader
    template: TextTemplate | None = None
    deleted_column: str | None = None
    lacks: frozenset[str] = frozenset()  # columns that none of its rows has, where it may
    partitions: Partitions = ()  # of the columns, those that its folders say, with their values

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        id_column: str,
        text_columns: Sequence[str],
        separator: str = " ",
        template: str | None = None,
        deleted_column: str | None = None,
        file_format: str | None = None,
        max_row_length: int = FileColumns().max_row_length,
        of_several: bool = False,
        partitions: Partitions = (),
    ) -> "ItemsFile":
        """Checks the file and its columns. Its name tells the format, unless `file_format` does.

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
        if file.is_dir() and _format(file, file_format) != "lance":
            raise NotFound(f"{file} is a folder: give a file")
        if not text_columns:
            raise InvalidRequest("no text column: name at least one")
        made_of = None if template is None else TextTemplate.parse(template)
        text_columns = tuple(text_columns) if made_of is None else made_of.columns
        reader = _reader(file, file_format, max_row_length)
        others = (*text_columns, *([deleted_column] if deleted_column else []))
        try:
            columns, types = reader.columns((id_column, *others)), reader.types()
        except _FILE_ERRORS as error:
            raise InvalidRequest(f"{file} cannot be read: {reason_of(error)}") from error
        said = tuple((name, value) for name, value in partitions if name not in columns)
        columns = (*columns, *(name for name, _ in said))
        may_lack = of_several and not isinstance(reader, CsvReader)
        lacks = frozenset(others).difference(columns) if may_lack else frozenset()
        check_columns(file, columns, types, id_column, [name for name in others if name not in lacks])
        said = tuple((name, value) for name, value in said if name in (id_column, *others))
        if {id_column, *others} <= {*dict(said), *lacks}:
            raise InvalidRequest(f"{file}: of the columns that are read its rows have none, but its folders")
        return cls(file, id_column, text_columns, separator, reader, made_of, deleted_column, lacks, said)

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
            named = (self.id_column, *self.text_columns, *filter(None, [self.deleted_column]))
            columns = tuple(dict.fromkeys(named))
            elsewhere = {*dict(self.partitions), *self.lacks}
            own = tuple(name for name in columns if name not in elsewhere)
            for number, record in enumerate(self.reader.records(own, span)):
                if number % _ROWS_A_LOOK == 0:
                    self._check_unchanged(state, line)
                line = record.line
                yield record if isinstance(record, BadRow) else self._row(record, columns)
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

    def _row(self, record: Record, columns: Sequence[str]) -> ItemRow | BadRow:
        item_id: str | None = None
        values = {name: record.values.get(name) for name in columns}
        values.update(self.partitions)
        try:
            item_id = _item_id(self.id_column, values.get(self.id_column))
            if self.deleted_column is not None and _says_so(
                self.deleted_column, values.get(self.deleted_column)
            ):
                return ItemRow(record.line, item_id, "", deleted=True, values=values)
            text = self._text_of(values)
            if not text:
                raise _BadValueError(f"no text in {', '.join(self.text_columns)}")
        except _BadValueError as error:
            return BadRow(record.line, str(error), item_id, content=content_of(values))
        return ItemRow(record.line, item_id, text, values=values)

    def _text_of(self, values: Mapping[str, object]) -> str:
        def text_of(name: str) -> str:
            value = values.get(name)
            # A template names its columns, and takes what has one text each.
            exact = self.template is not None and isinstance(value, _EXACT) and not isinstance(value, bool)
            return _exact_text(value) if exact else _text(name, value)

        if self.template is not None:
            return self.template.render(text_of)
        return joined(self.text_columns, self.separator, text_of)


class _BadValueError(ValueError):
    """Reason why a row is bad."""


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


def _item_id(name: str, value: object) -> str:
    exact = isinstance(value, _EXACT) and not isinstance(value, bool)
    item_id = _exact_text(value) if exact else _text(name, value)
    if not item_id or item_id.isspace():
        raise _BadValueError(f"no id in {name}")
    if len(item_id.encode()) > MAX_KEY_BYTES:
        raise _BadValueError(f"{name} has {len(item_id.encode())} bytes, the limit is {MAX_KEY_BYTES}")
    return item_id


def _exact_text(value: object) -> str:
    if isinstance(value, Moment):
        return value.text
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _text(name: str, value: object) -> str:
    """Reads the value as text: "" for null, and UTF-8 where a Parquet column has bytes."""
    if value is None:
        return ""
    try:
        text = value.decode() if isinstance(value, bytes) else value
        if not isinstance(text, str):
            kind = value.type if isinstance(value, Moment) else type(value).__name__
            raise _BadValueError(f"{name} is of type {kind}, not text")
        text.encode()  # lone surrogates: what CSV reading makes of stray bytes, and JSON of broken escapes
    except UnicodeError as error:
        raise _BadValueError(f"{name} is not valid UTF-8: {error.reason}") from error  # type: ignore[attr-defined]
    return text


def _says_so(name: str, value: object) -> bool:
    """Reads a column that says yes or no."""
    if isinstance(value, bool):
        return value
    word = (str(value) if isinstance(value, int) else _text(name, value)).strip().lower()
    if word in _YES or word in _NO:
        return word in _YES
    raise _BadValueError(f"{name} is {word[:40]!r}, and must say true or false")
