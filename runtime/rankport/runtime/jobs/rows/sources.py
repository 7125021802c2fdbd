"""`ItemSources`: the rows of several files, folders, patterns and URLs in one order, or a shard of them.

Owns what a name stands for. A folder is all its files of known formats, by name, those of its folders too, as
`files.folders` tells them; a pattern (`*`, `?`, `**`) what it finds, by name; a URL what `files.remote` finds there. A
file behind a URL is copied here while it is read, and its copy deleted then, so that it is one file from its first row
to its last; one that was checked stays until it is read, or the sources are closed.

A shard takes the items whose id hashes to it, and of bad rows without an id those whose line falls on it: each row is
one shard's, whichever file it lies in.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from glob import glob, has_magic
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.wording import be, counted
from rankport.runtime.jobs.config import FileColumns, FileFormat
from rankport.runtime.jobs.files.folders import (
    check_readable,
    files_below,
    format_of,
    item_files,
    lies_beside,
    partitions_of,
    why_none,
)
from rankport.runtime.jobs.files.remote import Copies, files_behind, is_url
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.items_file import ItemsFile
from rankport.runtime.jobs.rows.records import BadRow

_SHARD = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True)
class Shard:
    """Share of the items."""

    index: int  # from 0
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Reads I/N. Raises `InvalidRequest` for what is none."""
        match = _SHARD.fullmatch(text)
        if match is None or int(match[1]) > int(match[2]):
            raise InvalidRequest(f"shard {text!r}: give I/N, as 3/16, with I from 1 to N")
        return cls(int(match[1]) - 1, int(match[2]))

    def has(self, row: ItemRow | BadRow) -> bool:
        """Says whether a row is of this shard."""
        if row.id is None:
            return row.line % self.of == self.index
        return self.has_key(row.id)

    def has_key(self, key: str) -> bool:
        """Says whether an item is of this shard."""
        digest = blake2b(key.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") % self.of == self.index


class SourceRows(Iterator[ItemRow | BadRow]):
    """Rows of a shard as they are read, or all; counts the bad rows of other shards that may be of its items."""

    def __init__(self, rows: Iterator[ItemRow | BadRow], shard: Shard | None) -> None:
        self.strays = 0  # bad rows without an id, so far, that are other shards'
        self._rows, self._shard = rows, shard

    def __next__(self) -> ItemRow | BadRow:
        for row in self._rows:
            if self._shard is None or self._shard.has(row):
                return row
            self.strays += row.id is None
        raise StopIteration


@dataclass(frozen=True, slots=True)
class ItemSources:
    """Sources that were found, the first one of which was checked. Make it with `open`; a context manager."""

    names: tuple[str, ...]  # paths and URLs of single files
    columns: FileColumns
    shard: Shard | None
    copies: Copies = field(default_factory=Copies)

    @classmethod
    def open(cls, sources: Sequence[str | Path], columns: FileColumns) -> "ItemSources":
        """Finds the files, and checks all that are here; of those behind URLs the first one.

        Raises:
            NotFound: a source stands for no file.
            InvalidRequest: as `ItemsFile.open`; the scheme of a URL is unknown; a shard is none.
            MissingExtra: a URL, and fsspec, or what it needs for the scheme, is not installed.
        """
        made = cls.find(sources, columns)
        try:
            made.check()
        except BaseException:
            made.close()
            raise
        return made

    @classmethod
    def find(
        cls,
        sources: Sequence[str | Path],
        columns: FileColumns,
        *,
        allowed: Callable[[str], None] = lambda _: None,
    ) -> "ItemSources":
        """Finds the files and opens none; `allowed` raises for the name of one that must not be.

        Raises as `open`, but for what is in the files.
        """
        if not sources:
            raise InvalidRequest("no items: name at least one file")
        shard = None if columns.shard is None else Shard.parse(columns.shard)
        names = tuple(
            dict.fromkeys(name for source in sources for name in _files_of(str(source), columns.file_format))
        )
        for name in names:
            allowed(name)
        return cls(names, columns, shard)

    def check(self, *, remote: bool = True) -> None:
        """Opens all files that are here and, if `remote`, the first of those behind URLs; raises as `open`."""
        behind = [name for name in self.names if is_url(name)]
        lacks: list[frozenset[str]] = []
        for name in self.names:
            if name not in behind[int(remote) :]:
                with self._file(name, keep=True) as file:
                    lacks.append(file.lacks)
        if lacks and (nowhere := frozenset.intersection(*lacks)):
            others = f"nor has another of {counted(len(lacks), 'file')} that {be(len(lacks))} looked at"
            raise InvalidRequest(f"{self.names[0]} has no column {min(nowhere)!r}, {others}")

    def rows(self) -> "SourceRows":
        """Gives the rows of all files in order. They raise as `ItemsFile.rows`, and `NotFound` for a file that went."""
        return SourceRows(self._all_rows(), self.shard)

    def owns(self, key: str) -> bool:
        """Says whether an item is of these sources' shard, or would be."""
        return self.shard is None or self.shard.has_key(key)

    def count(self) -> int | None:
        """Counts rows, roughly, for a progress bar; None where that costs too much, or files are elsewhere."""
        if any(is_url(name) for name in self.names):
            return None
        counts = []
        for name in self.names:
            with self._file(name) as file:
                counts.append(file.count())
        known = [count for count in counts if count is not None]
        share = 1 if self.shard is None else self.shard.of
        return sum(known) // share if len(known) == len(counts) else None

    def files(self) -> tuple[ItemsFile, ...]:
        """Gives the files apart. Raises `InvalidRequest` for files behind URLs, and for a shard."""
        if self.shard is not None:
            raise InvalidRequest(
                "a dataset has all rows of its files: leave shard (--shard) out, or encode into a store"
            )
        for name in filter(is_url, self.names):
            raise InvalidRequest(
                f"{name}: a dataset is made of files in folders, which every node sees: copy it there first"
            )
        return tuple(self._opened(Path(name), name) for name in self.names)

    def close(self) -> None:
        """Deletes copies of files behind URLs that were checked and not read. Closing twice does nothing."""
        self.copies.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _all_rows(self) -> Iterator[ItemRow | BadRow]:
        for name in self.names:
            with self._file(name) as file:
                told = name if len(self.names) > 1 else ""
                yield from (replace(row, file=told) if told else row for row in file.rows())

    @contextmanager
    def _file(self, name: str, *, keep: bool = False) -> Iterator[ItemsFile]:
        with self.copies.of(name, keep=keep) if is_url(name) else nullcontext(Path(name)) as path:
            yield self._opened(path, name)

    def _opened(self, path: Path, name: str) -> ItemsFile:
        several = len(self.names) > 1
        return ItemsFile.open(path, self.columns, of_several=several, partitions=partitions_of(name))


def _files_of(source: str, file_format: FileFormat | None) -> list[str]:
    """Finds the files that a source stands for, by name."""
    if is_url(source):
        return files_behind(source, file_format)
    if _is_folder(source):
        found = _files_in(source, file_format)
    elif has_magic(source) and not os.path.exists(source):
        check_readable(source)
        names = (name for name in sorted(glob(source, recursive=True)) if not lies_beside(source, name))
        found = [
            file for name in names for file in (_files_in(name, file_format) if _is_folder(name) else [name])
        ]
    else:
        return [source]  # which `ItemsFile.open` misses by name if it is not there
    found = [name for name in found if not _is_empty_part(name)]
    if not found:
        raise NotFound(f"no items in {source}: {why_none(source)}")
    return found


def _files_in(folder: str, file_format: FileFormat | None) -> list[str]:
    found = (os.path.join(folder, name) for name in item_files(folder, files_below(folder), file_format))
    return [name for name in found if os.path.isfile(name) or os.path.isdir(name) or os.path.islink(name)]


def _is_empty_part(name: str) -> bool:
    """Says whether a file is empty, and Spark beside it says that all is written: it had no rows for that part."""
    path = Path(name)
    return path.is_file() and not path.stat().st_size and path.with_name("_SUCCESS").exists()


def _is_folder(name: str) -> bool:
    return os.path.isdir(name) and format_of(name) != "lance"
