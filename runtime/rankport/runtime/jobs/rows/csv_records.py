"""`CsvRecords`: records of CSV as RFC 4180 has them, in bounded memory, never from inside an open quote.

Owns where a record and its fields end; columns are `row_readers`'s. The csv module is not used: it limits a field to
131,072 characters for the whole process, and after an error nobody can tell whether its next line lies inside a quote.

A quote opens a field as its first character only; elsewhere in a field that is not quoted it is a character like any
other. Text behind a closing quote, a quote behind blanks at the start of a field, and a quote that never closes leave
open what lies behind them, so they end the reading: a line there could be text that looks like a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

_LINE_ENDS = ("\n", "\r")


@dataclass(frozen=True, slots=True)
class CsvRecord:
    """Record as read."""

    line: int  # where it starts, from 1
    fields: list[str] | None  # None where it is too long


class BrokenQuotingError(ValueError):
    """Quotes that leave open what is text and what is a row from here on."""


class CsvRecords:
    """Records of a stream opened with newline=""; blank lines are passed over.

    One of more than `max_chars` is read to its end, for that is where the next one starts, but not kept.
    """

    def __init__(self, stream: TextIO, max_chars: int, chunk_chars: int = 2**16) -> None:
        """Takes at most `chunk_chars` characters from the stream at a time."""
        self._stream = stream
        self._chunk_chars = chunk_chars
        self._max_chars = max_chars
        self._line = 1
        self._chunk = ""
        self._place = 0
        self._fields: list[str] = []
        self._parts: list[str] = []  # of the field at hand
        self._chars = 0  # of the record at hand

    def __iter__(self) -> Iterator[CsvRecord]:
        """Yields the records. Raises `BrokenQuotingError`, which ends them."""
        while self._refill():
            if self._chunk in ("\n", "\r", "\r\n"):
                continue
            line, self._chars = self._line_of_chunk, len(self._chunk)
            fields = self._read_record()
            yield CsvRecord(line, fields if self._chars <= self._max_chars else None)

    @property
    def _line_of_chunk(self) -> int:
        return self._line - self._chunk.endswith(_LINE_ENDS)

    def _refill(self) -> bool:
        """Takes the next line, or a piece of a long one; False at the end of the stream."""
        before, self._chunk, self._place = self._chunk, self._stream.readline(self._chunk_chars), 0
        cut_in_end = self._chunk == "\n" and before.endswith("\r")
        self._line += self._chunk.endswith(_LINE_ENDS) and not cut_in_end
        self._chars += len(self._chunk)
        return bool(self._chunk)

    def _read_record(self) -> list[str]:
        if '"' not in self._chunk and self._chunk.endswith(_LINE_ENDS):
            return self._chunk.rstrip("\r\n").split(",")
        self._fields = []
        while self._read_field():
            pass
        return self._fields

    def _read_field(self) -> bool:
        """Reads a field and what ends it; says whether another one follows."""
        self._parts = []
        if self._next_is('"'):
            self._read_quoted()
        else:
            self._read_plain()
        self._fields.append("".join(self._parts))
        if not self._next_is(","):
            return False
        self._place += 1
        return True

    def _read_plain(self) -> None:
        while True:
            end = self._chunk.find(",", self._place)
            text = self._chunk[self._place : end if end >= 0 else None]
            if not self._parts and text.lstrip(" \t").startswith('"'):
                raise BrokenQuotingError(f"line {self._line_of_chunk} has blanks before a quote")
            self._keep(text if end >= 0 else text.rstrip("\r\n"))
            self._place = end if end >= 0 else len(self._chunk)
            if end >= 0 or self._chunk.endswith(_LINE_ENDS) or not self._refill():
                return

    def _read_quoted(self) -> None:
        line = self._line_of_chunk
        self._place += 1
        while True:
            end = self._chunk.find('"', self._place)
            if end < 0:
                self._keep(self._chunk[self._place :])
                if not self._refill():
                    raise BrokenQuotingError(f"the quote that line {line} opens is never closed")
                continue
            self._keep(self._chunk[self._place : end])
            self._place = end + 1
            if not self._next_is('"'):
                break
            self._keep('"')
            self._place += 1
        if not (self._next_is(",") or self._at_line_end()):
            raise BrokenQuotingError(f"line {self._line_of_chunk} has text behind a closing quote")

    def _next_is(self, character: str) -> bool:
        """Says whether that comes next, in the piece behind this one where a long line was cut here."""
        if self._place == len(self._chunk) and not self._chunk.endswith(_LINE_ENDS):
            self._refill()
        return self._chunk.startswith(character, self._place)

    def _at_line_end(self) -> bool:
        return self._place == len(self._chunk) or self._chunk.startswith(_LINE_ENDS, self._place)

    def _keep(self, text: str) -> None:
        if self._chars <= self._max_chars:
            self._parts.append(text)
