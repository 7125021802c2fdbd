"""Rows as a reader of files gives them, and what a reader is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


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


@dataclass(frozen=True, slots=True)
class Moment:
    """Date or time of a column of moments, written exactly: Python's own types end at microseconds."""

    type: str  # of the column
    text: str


class RowReader(Protocol):
    """Reader of a file in one format. Errors of the file as a whole are OSError, EOFError or zlib.error."""

    def columns(self) -> tuple[str, ...]:
        """Lists the columns there are. Raises InvalidRequest where there are none to be found."""

    def records(self, columns: Sequence[str]) -> Iterator[Record | BadRow]:
        """Yields the rows in order; a record has at least those of `columns` that its row has.

        Raises InvalidRequest where nobody can say what the rest of the file holds.
        """

    def count(self) -> int | None:
        """Counts rows, roughly: blank lines and stray quotes mislead it. None where counting costs too much."""
