"""Cuts of rows: windows, which are sorted by length together, and the batches of a window.

Owns how many rows and characters these hold: so many rows, and fewer where their texts are long, so that memory
depends on neither. Cuts follow from the rows alone: a job that runs again makes the same ones.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.records import BadRow

WINDOW_CHARS: Final = 64 * 2**20
"""Characters of the rows of a window, but for its last row."""
BATCH_CHARS: Final = 8 * 2**20
"""Characters of the texts of a batch, but for its last one: a tokenizer takes some 30 bytes for each."""

T = TypeVar("T")
Row = ItemRow | BadRow


def chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yields lists of `size` values, the last one shorter."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


def windows(rows: Iterable[Row], size: int) -> Iterator[tuple[int, list[Row]]]:
    """Yields windows of `size` rows with their numbers from 0; one of many characters in parts, all of its number."""
    for number, window in enumerate(_cut_at(rows, size)):
        yield from ((number, part) for part in _bounded(window, row_chars, WINDOW_CHARS))


def length_batches(rows: Sequence[ItemRow], size: int) -> Iterator[list[ItemRow]]:
    """Yields the batches of a window: rows of alike length together, so that little is padded."""
    for batch in chunks(sorted(rows, key=lambda row: len(row.text)), size):
        yield from _bounded(batch, lambda row: len(row.text), BATCH_CHARS)


def row_chars(row: Row) -> int:
    """Counts the characters that a row holds, of its text or of the columns that it was made of."""
    if isinstance(row, BadRow):
        return len(row.content)
    values = () if row.values is None else row.values.values()
    return max(len(row.text), sum(len(value) for value in values if isinstance(value, str | bytes)))


def _cut_at(rows: Iterable[T], size: int) -> Iterator[Iterator[T]]:
    """Yields iterators over `size` rows each; one is read to its end before the next is asked for."""
    iterator = iter(rows)
    for first in iterator:
        yield _after(first, islice(iterator, size - 1))


def _after(first: T, others: Iterator[T]) -> Iterator[T]:
    yield first
    yield from others


def _bounded(rows: Iterable[T], chars_of: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Yields rows in parts: each ends with the row by which it has `most` characters."""
    part: list[T] = []
    chars = 0
    for row in rows:
        part.append(row)
        chars += chars_of(row)
        if chars >= most:
            yield part
            part, chars = [], 0
    if part:
        yield part
