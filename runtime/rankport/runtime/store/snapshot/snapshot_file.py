"""`SnapshotFile`: one file of a snapshot, mapped and only read.

Owns the look-up of digests, and that nothing of the file is believed before a sum over it has matched: blocks of the
columns and rows of tokens when they are first touched. A file whose header, places or sums lie
gives an error that names the file; no read goes behind its end.
"""

import mmap
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import StoreError
from rankport.protos.reasons import reason_of
from rankport.runtime.store.snapshot.layout import (
    BLOCK_BYTES,
    BLOCK_WORDS,
    FACTS,
    MAX_BUCKET,
    NUMBER,
    WORD,
    Header,
    LayoutError,
    Section,
    Sections,
    row_sums,
    word_sums,
)
from rankport.runtime.store.watched_file import FileState, WatchedFile

_VERIFIED_AT_ONCE = 2**14  # blocks
S = TypeVar("S", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of tokens as they were read, and which of them their sums confirm."""

    tokens: NDArray[np.uint8]  # [rows, nbytes]
    whole: NDArray[np.bool_]  # [rows]


class SnapshotFile:
    """Open file. Any thread may read it; its map is freed with the last reference to it."""

    def __init__(self, path: Path) -> None:
        """Opens and maps the file, and checks its header, its size and the sum over its sums.

        Raises:
            StoreError: no such file, or it is not what its header says.
        """
        self.path = path
        try:
            self._map_file()
        except OSError as error:
            raise StoreError(f"snapshot {path} cannot be read: {reason_of(error)}") from error
        except LayoutError as error:
            raise StoreError(
                f"{path} is no snapshot that can be read: {error}: write it anew (`rankport store copy`)"
            ) from error

    def state(self) -> FileState:
        """Looks what has become of the file; its map may be touched where it is the same, replaced or gone."""
        state = self._watched.look()
        if state is FileState.SAME and self._watched.written_ns != self.written_ns:
            return FileState.WRITTEN
        return state

    def find(self, digests: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Finds the rows of digests that are there. [keys, 2] -> (places ascending, rows), both [there]

        Raises:
            StoreError: a block of the index is corrupt.
        """
        header = self.header
        buckets = (digests[:, 0] >> np.uint64(64 - header.bucket_bits)).astype(np.int64)
        sections = self.sections
        begin, end = self._read_short(sections.starts, np.stack([buckets, buckets + 1]))
        width = int((end - begin).max(initial=0))
        if width > MAX_BUCKET or (end < begin).any() or end.max(initial=0) > header.items:
            raise self._corrupt(f"its index has a bucket of {width} items")
        if not width:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        at = begin[:, None] + np.arange(width)
        inside = at < end[:, None]
        firsts = self._read(sections.firsts, np.minimum(at, header.items - 1))
        places, columns = np.nonzero(inside & (firsts == digests[:, :1]))
        entries = at[places, columns]
        same = self._read(sections.seconds, entries) == digests[places, 1]
        places, entries = places[same], entries[same]
        rows = self._read_short(sections.index_rows, entries)
        if rows.max(initial=-1) >= header.rows or (places[1:] == places[:-1]).any():
            raise self._corrupt("its index names a row that is not there, or an item twice")
        return places, rows

    def tokens(self, digests: NDArray[np.uint64], rows: NDArray[np.int64]) -> Rows:
        """Reads rows of tokens, copied, of the items that the digests are of. [rows, 2], [rows]"""
        taken = self._tokens.take(rows, axis=0)
        whole = self._whole.take(rows)
        if not whole.all():
            fresh = np.flatnonzero(~whole)
            facts = self._facts.take(rows[fresh])
            whole[fresh] = row_sums(digests[fresh], facts, taken[fresh]) == facts["sum"]
            self._whole[rows[whole]] = True
        return Rows(taken[:, : self.header.spec.nbytes], whole)

    def facts(self, rows: NDArray[np.int64]) -> NDArray[np.void]:
        """Reads the facts of rows, checked. Raises `StoreError` for a corrupt block."""
        self._check(self.sections.facts, rows)
        return self._facts.take(rows)

    def keys(self, begin: int, end: int) -> list[bytes]:
        """Reads the keys of rows `begin` to `end`, checked, in UTF-8. Raises `StoreError` for a corrupt block."""
        ends = self._read(self.sections.key_ends, np.arange(max(begin - 1, 0), end)).astype(np.int64)
        bounds = ends if begin else np.concatenate([[0], ends])
        if (np.diff(bounds) <= 0).any() or bounds[-1] > self.header.key_bytes:
            raise self._corrupt(f"the keys of rows {begin} to {end} do not follow each other")
        self._check(self.sections.keys, np.arange(bounds[0], bounds[-1], BLOCK_BYTES))
        self._check(self.sections.keys, bounds[-1:] - 1)
        base = self.sections.keys.offset
        heap = self._map[base + int(bounds[0]) : base + int(bounds[-1])]
        cuts = (bounds - bounds[0]).tolist()
        return [heap[start:stop] for start, stop in pairwise(cuts)]

    def _map_file(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            self._watched = WatchedFile(self.path)
            self.written_ns = self._watched.written_ns
            if not self._watched.is_file(descriptor):
                raise LayoutError("it was replaced while it was opened")
            self.header = Header.unpack(os.pread(descriptor, BLOCK_BYTES, 0))
            self.sections = sections = Sections.of(self.header)
            if self._watched.size != sections.total_bytes:
                raise LayoutError(
                    f"it has {self._watched.size} bytes, its header counts {sections.total_bytes}"
                )
            self._map = mmap.mmap(descriptor, sections.total_bytes, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        self._facts = self._view(sections.facts, FACTS)
        rows = self._view(sections.tokens, np.dtype((np.void, self.header.row_bytes)))
        self._tokens = rows.view(np.uint8).reshape(self.header.rows, self.header.row_bytes)
        self._words = self._view(sections.checked, WORD).reshape(-1, BLOCK_WORDS)
        self._sums = self._view(sections.sums, WORD)
        self._seen = np.zeros(sections.sums.count, np.bool_)  # blocks
        self._seen_whole: set[int] = set()  # sections, by their offsets
        self._whole = np.zeros(self.header.rows, np.bool_)  # rows whose sums have matched
        if int(word_sums(self._sums[None])[0]) != self.header.sums_sum:
            raise LayoutError("the sum over its sums does not match")

    def _view(self, section: Section, dtype: "np.dtype[S]") -> NDArray[S]:
        return np.frombuffer(self._map, dtype, section.count, section.offset)

    def _read(self, section: Section, indices: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Reads a column of words at indices, each block checked when it is first touched."""
        self._check(section, indices)
        return self._view(section, WORD).take(indices)

    def _read_short(self, section: Section, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Reads a column of row numbers; otherwise as `_read`."""
        self._check(section, indices)
        return self._view(section, NUMBER).take(indices).astype(np.int64)

    def _check(self, section: Section, indices: NDArray[np.int64]) -> None:
        if section.offset in self._seen_whole:
            return
        base = section.offset - self.sections.checked.offset
        blocks = (base + indices * section.dtype.itemsize) // BLOCK_BYTES
        seen = self._seen.take(blocks)
        if seen.all():
            return
        unseen = np.unique(blocks[~seen])
        for start in range(0, len(unseen), _VERIFIED_AT_ONCE):
            part = unseen[start : start + _VERIFIED_AT_ONCE]
            wrong = self._mismatching(part)
            if len(wrong):
                raise self._corrupt(f"block {wrong[0]} of its columns does not match its sum")
            self._seen[part] = True
        if self._seen[
            base // BLOCK_BYTES : -(-(base + section.count * section.dtype.itemsize) // BLOCK_BYTES)
        ].all():
            self._seen_whole.add(section.offset)

    def _mismatching(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        wrong: NDArray[np.bool_] = word_sums(self._words.take(blocks, axis=0)) != self._sums.take(blocks)
        return blocks[wrong]

    def _corrupt(self, problem: str) -> StoreError:
        return StoreError(
            f"snapshot {self.path} is corrupt: {problem}: write it anew (`rankport store copy`)"
        )
