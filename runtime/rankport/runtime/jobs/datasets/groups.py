"""`FileGroup`: small files of the input that follow each other, whose rows share windows, and so parts.

Owns which files these are. That follows from their number and from which of them are small, so that a file which grows
a little moves no other to another part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rankport.runtime.jobs.batching import chunks
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.items_file import ItemsFile, Stamp
from rankport.runtime.jobs.rows.records import WHOLE, BadRow, Span

_SMALL_BYTES = 256 * 2**10
_MOST_FILES = 64


@dataclass(frozen=True, slots=True)
class FileGroup:
    """One file, or several small ones. The `file` of a row is then the place of its file among them, from 0."""

    first: int  # number of its first file among all
    files: tuple[ItemsFile, ...]

    def rows(self, span: Span = WHOLE, stamps: Sequence[Stamp] | None = None) -> Iterator[ItemRow | BadRow]:
        """Yields the rows, or those of a span of a single file; raises as `ItemsFile.rows`."""
        for place, file in enumerate(self.files):
            rows = file.rows(span, None if stamps is None else stamps[place])
            yield from rows if place == 0 else (replace(row, file=str(place)) for row in rows)

    def spans(self, rows: int) -> Sequence[Span]:
        """Cuts as `ItemsFile.spans`; several files are one span."""
        return self.files[0].spans(rows) if len(self.files) == 1 else (WHOLE,)

    def stamps(self) -> list[Stamp]:
        """Returns the stamp of each file."""
        return [file.stamp() for file in self.files]


def groups_of(files: Sequence[ItemsFile]) -> list[FileGroup]:
    """Groups files, all of them in their order."""
    groups: list[FileGroup] = []
    for small, run in groupby(enumerate(files), key=lambda numbered: _is_small(numbered[1])):
        for numbered in chunks(run, _MOST_FILES if small else 1):
            groups.append(FileGroup(numbered[0][0], tuple(file for _, file in numbered)))
    return groups


def place_in_group(row: ItemRow | BadRow) -> int:
    """Reads the place of a row's file in its group."""
    return int(row.file or 0)


def _is_small(file: ItemsFile) -> bool:
    return file.path.is_file() and file.stamp()[0] <= _SMALL_BYTES
