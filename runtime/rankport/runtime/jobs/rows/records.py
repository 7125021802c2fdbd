"""Rows as a reader of files gives them, what a reader is, and how the content of a bad row is written down."""

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Protocol

from rankport.runtime.jobs.rows.column_types import ColumnType

MAX_CONTENT: Final = 65_536
"""Longest content of a bad row, in characters of its JSON; that of a longer one is left out."""


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
    file: str = ""  # where there are several
    # JSON: an object of the columns that are read; a list of fields, or a text, where they cannot be told; or "".
    content: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Moment:
    """Date or time of a column of moments, written exactly: Python's own types end at microseconds."""

    type: str  # of the column
    text: str


def content_of(values: object) -> str:
    """Writes a row down as JSON: what JSON has no type for as its text. "" for one over `MAX_CONTENT`."""
    try:
        content = json.dumps(values, default=_as_text, allow_nan=False)
    except ValueError:
        content = json.dumps(_finite(values), default=_as_text)
    return content if len(content) <= MAX_CONTENT else ""


def _finite(value: object) -> object:
    """Puts a text in the place of each number that JSON has not."""
    match value:
        case float() if not math.isfinite(value):
            return json.dumps(value)
        case dict():
            return {name: _finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
    return value


def _as_text(value: object) -> str:
    match value:
        case Moment():
            return value.text
        case Decimal():
            return format(value, "f")
        case bytes():
            return value.decode(errors="surrogateescape")
    return str(value)


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of a file that are read together."""

    first: int = 0  # number of the first one, from 0
    rows: int | None = None  # None: to the end
    byte: int = 0  # where the first one starts, in a file of lines
    line: int = 1  # and in which line


WHOLE: Final = Span()
"""All rows of a file."""


class RowReader(Protocol):
    """Reader of a file in one format. Errors of the file as a whole are OSError, EOFError or zlib.error."""

    def columns(self, wanted: Collection[str] = ()) -> tuple[str, ...]:
        """Lists the columns there are, the first ones where rows have what they like, and which of `wanted` come later.

        Raises InvalidRequest where there are none to be found.
        """

    def types(self) -> Mapping[str, ColumnType]:
        """Tells the types of columns, where they have any."""

    def records(self, columns: Sequence[str], span: Span = WHOLE) -> Iterator[Record | BadRow]:
        """Yields the rows of a span in order; a record has at least those of `columns` that its row has.

        Raises InvalidRequest where nobody can say what the rest of the file holds.
        """

    def count(self) -> int | None:
        """Counts rows, roughly: blank lines and stray quotes mislead it. None where counting costs too much."""

    def spans(self, rows: int) -> Sequence[Span]:
        """Cuts the file into spans of so many rows, which are read apart; `WHOLE` where that cannot be."""
