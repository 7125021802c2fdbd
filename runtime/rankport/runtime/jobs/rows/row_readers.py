"""Readers of CSV and JSONL: records by column name, one at a time, bad ones marked and passed over.

Owns header and objects. Which columns matter, and what their values must be, is `item_rows`'s.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from rankport.protos.errors import InvalidRequest
from rankport.protos.files.json_text import json_of_text
from rankport.protos.wording import counted
from rankport.runtime.jobs.files.compressed import compression_of, unpacked
from rankport.runtime.jobs.files.text import check_encoding, count_lines, open_text
from rankport.runtime.jobs.rows.column_types import ColumnType
from rankport.runtime.jobs.rows.csv_records import BrokenQuotingError, CsvRecord, CsvRecords
from rankport.runtime.jobs.rows.records import WHOLE, BadRow, Record, Span, content_of

_SAMPLED_ROWS = 100  # of a JSONL file, to learn its columns
_JSON_TYPES = {
    list: "array",
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
}
_DEFAULT_HINT = (
    "shorten it, or raise max_row_length (--max-row-length of encode, and of audit membership) to read it"
)


class CsvReader:
    """RFC 4180 with a header line, UTF-8, commas. A row of more than `max_row_length` characters is a bad row.

    Broken quoting ends the reading: see `csv_records`.
    """

    def __init__(self, path: Path, max_row_length: int) -> None:
        self._path = path
        self._max_row_length = max_row_length

    def columns(self, wanted: Collection[str] = ()) -> tuple[str, ...]:
        check_encoding(self._path)
        with open_text(self._path) as stream:
            return self._header(iter(CsvRecords(stream, self._max_row_length)))

    def types(self) -> Mapping[str, ColumnType]:
        return {}

    def records(self, columns: Sequence[str], span: Span = WHOLE) -> Iterator[Record | BadRow]:
        assert span == WHOLE, "see `spans`"
        with open_text(self._path) as stream:
            rows = iter(CsvRecords(stream, self._max_row_length))
            header = self._header(rows)
            for name in columns:
                if header.count(name) != 1:
                    raise InvalidRequest(
                        f"{self._path} was changed since it was opened: no column {name!r} any more"
                    )
            try:
                for row in rows:
                    yield self._record(header, row)
            except BrokenQuotingError as error:
                raise InvalidRequest(
                    f"{self._path}: {error}, so rows and quoted text cannot be told apart from there on, and reading "
                    'ends: quote whole fields, and double the quotes in them ("say ""hi""")'
                ) from error

    def count(self) -> int | None:
        return count_lines(self._path, quote=b'"', header_lines=1)

    def spans(self, rows: int) -> Sequence[Span]:
        """Gives the whole: whether a line starts a row, only those before it tell."""
        return (WHOLE,)

    def _header(self, rows: Iterator[CsvRecord]) -> tuple[str, ...]:
        try:
            header = next(rows, None)
        except BrokenQuotingError as error:
            raise InvalidRequest(f"{self._path}: its header line is broken CSV: {error}") from error
        if header is None:
            raise InvalidRequest(f"{self._path} has no header line with the names of its columns")
        if header.fields is None:
            raise InvalidRequest(f"{self._path}: its header line has over {self._max_row_length} characters")
        if len(header.fields) == 1 and (
            mark := next((mark for mark in ";\t|" if mark in header.fields[0]), "")
        ):
            raise InvalidRequest(
                f"{self._path}: its header line {header.fields[0]!r:.80} has {mark!r} between columns: put commas there"
            )
        return tuple(header.fields)

    def _record(self, header: Sequence[str], row: CsvRecord) -> Record | BadRow:
        if row.fields is None:
            return BadRow(row.line, f"over {self._max_row_length} characters: {_DEFAULT_HINT}")
        if len(row.fields) != len(header):
            reason = f"{counted(len(row.fields), 'field')} where the header has {len(header)}"
            return BadRow(row.line, reason, content=content_of(row.fields))
        return Record(row.line, dict(zip(header, row.fields, strict=True)))


def _sampled_names(records: Iterator[Record | BadRow]) -> tuple[str, ...]:
    """Lists the names of values of the first records: one may leave a column out where it is empty."""
    sample = islice(records, _SAMPLED_ROWS)
    names = {name: None for record in sample if isinstance(record, Record) for name in record.values}
    return tuple(names)


class JsonlReader:
    """Reader of JSON objects, one a line, UTF-8. A line of more than `max_row_length` bytes is a bad row."""

    def __init__(self, path: Path, max_row_length: int) -> None:
        self._path = path
        self._max_row_length = max_row_length

    def columns(self, wanted: Collection[str] = ()) -> tuple[str, ...]:
        check_encoding(self._path)
        names = _sampled_names(self.records(()))
        if not names:
            raise InvalidRequest(
                f"{self._path} has no JSON object in its first {counted(_SAMPLED_ROWS, 'row')}"
            )
        return (*names, *self._names_behind({*wanted} - {*names}))

    def _names_behind(self, missing: set[str]) -> Iterator[str]:
        """Looks for names in all rows: one may be left out wherever it is empty, as Spark does."""
        if not missing:
            return
        quoted = (json.dumps(name, ensure_ascii=False).encode(errors="surrogateescape") for name in missing)
        marks = (b"\\u", *quoted)  # a line without these need not be read as JSON
        with unpacked(self._path) as stream:
            for line in _lines(stream, self._max_row_length):
                if line is None or not any(mark in line for mark in marks):
                    continue
                record = _json_record(0, line)
                found = missing & record.values.keys() if isinstance(record, Record) else set()
                yield from found
                missing -= found
                if not missing:
                    return

    def types(self) -> Mapping[str, ColumnType]:
        return {}

    def records(self, columns: Sequence[str], span: Span = WHOLE) -> Iterator[Record | BadRow]:
        with unpacked(self._path) as stream:
            if span.byte:
                stream.seek(span.byte)
            yield from islice(self._records(stream, span.line), span.rows)

    def count(self) -> int | None:
        return count_lines(self._path, quote=None, header_lines=0)

    def spans(self, rows: int) -> Sequence[Span]:
        """Looks for the ends of lines, and parses none; gives the whole of a compressed file."""
        if compression_of(self._path):
            return (WHOLE,)
        spans, span, count = [], WHOLE, 0
        with unpacked(self._path) as stream:
            for line, text in enumerate(_lines(stream, self._max_row_length), 1):
                count += text is None or not text.isspace()
                if count == rows:
                    spans.append(replace(span, rows=rows))
                    span, count = Span(span.first + rows, None, stream.tell(), line + 1), 0
        return [*spans, replace(span, rows=count)] if count else spans or (WHOLE,)

    def _records(self, stream: BinaryIO, first_line: int) -> Iterator[Record | BadRow]:
        for line, text in enumerate(_lines(stream, self._max_row_length), first_line):
            if text is None:
                yield BadRow(line, f"over {self._max_row_length} bytes: {_DEFAULT_HINT}")
            elif not text.isspace():
                yield _json_record(line, text)


class DeadLettersReader:
    """Reader of bad rows that a job wrote down: of each letter the `row`, an object once it is mended."""

    def __init__(self, path: Path, max_row_length: int) -> None:
        self._path, self._letters = path, JsonlReader(path, max_row_length)

    def columns(self, wanted: Collection[str] = ()) -> tuple[str, ...]:
        check_encoding(self._path)
        names = _sampled_names(self.records(()))
        if not names:
            raise InvalidRequest(
                f"{self._path} has no dead letter with a row that is an object in its first {_SAMPLED_ROWS}"
            )
        return names

    def types(self) -> Mapping[str, ColumnType]:
        return {}

    def records(self, columns: Sequence[str], span: Span = WHOLE) -> Iterator[Record | BadRow]:
        for letter in self._letters.records(("row",), span):
            yield letter if isinstance(letter, BadRow) else _row_of(letter)

    def count(self) -> int | None:
        return self._letters.count()

    def spans(self, rows: int) -> Sequence[Span]:
        return self._letters.spans(rows)


def _row_of(letter: Record) -> Record | BadRow:
    row = letter.values.get("row")
    if isinstance(row, dict):
        return Record(letter.line, row)
    if row is None:
        where = " ".join(
            f"{name} {letter.values[name]}" for name in ("file", "line") if name in letter.values
        )
        return BadRow(letter.line, f"a dead letter without its row, which was too long: look at {where}")
    return BadRow(letter.line, "a dead letter whose row is no object: mend it", content=content_of(row))


def _lines(stream: BinaryIO, max_bytes: int) -> Iterator[bytes | None]:
    """Yields lines with their ends, None in the place of one that is too long, which is not kept."""
    while line := stream.readline(max_bytes + 1):
        if len(line) <= max_bytes or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(max_bytes)
        yield None


def _json_record(line: int, text: bytes) -> Record | BadRow:
    try:
        value = json_of_text(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return _bad_line(line, text, f"bytes that are not UTF-8: {error.reason} at byte {error.start}")
    except ValueError as error:
        return _bad_line(line, text, f"broken JSON: {error}")
    if not isinstance(value, dict):
        return _bad_line(line, text, f"a JSON {_JSON_TYPES[type(value)]} where an object is needed")
    return Record(line, value)


def _bad_line(line: int, text: bytes, reason: str) -> BadRow:
    return BadRow(line, reason, content=content_of(text.decode(errors="surrogateescape").rstrip("\r\n")))
