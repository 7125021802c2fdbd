"""Check of the pages of a file of LMDB, read as a file: through its map a damaged page may end the process (SIGBUS).

LMDB keeps no sums. What holds its trees together is checked instead: each page says its own number and kind, is there
once, and has keys in order between those of the pages beside it; each tree has as many pages and entries as its record
says, and no page of a tree counts as free. Values have sums of their own (`records`), which go with their keys.

The format is that of LMDB 0.9, with the byte order and the 64 bits of the machines that this runs on.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct

from rankport.runtime.store.lmdb_store.data_file import DATA

_HEADER = Struct("<QHHHH")  # number, -, kind, end of the places of nodes, start of the nodes
_OVERFLOW_PAGES = Struct("<I")  # in the place of the last two
# Low and high half of a size, or the parts of a page's number; flags; bytes of the key.
_NODE = Struct("<HHHH")
_META = Struct("<IIQQ")  # magic, version, -, -
_TREE = Struct("<IHHQQQQQ")  # size of pages, flags, depth, pages: branches, leaves, overflow; entries, root
_LAST = Struct("<QQ")  # last page, transaction
_NUMBER = Struct("<Q")
_MAGIC = 0xBEEFC0DE
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_BIG, _SUBTREE = 1, 2  # of a node
_KINDS = 0x7F
_NO_ROOT = 2**64 - 1


class DamagedPageError(Exception):
    """Page that is not what LMDB wrote."""


@dataclass(slots=True)
class _Counted:
    """Pages and entries of a tree."""

    branches: int = 0
    leaves: int = 0
    overflow: int = 0
    entries: int = 0


@dataclass(frozen=True, slots=True)
class _Tree:
    """Record of a tree."""

    depth: int
    counted: _Counted
    root: int
    integer_keys: bool = False

    @classmethod
    def read(cls, record: bytes, *, integer_keys: bool = False) -> "_Tree":
        _, _, depth, branches, leaves, overflow, entries, root = _TREE.unpack(record)
        return cls(depth, _Counted(branches, leaves, overflow, entries), root, integer_keys)


@dataclass(slots=True)
class _Walk:
    """Pages of one transaction, as they are met."""

    descriptor: int
    page_bytes: int
    pages: int
    met: bytearray = field(init=False)  # 1 for each page of a tree

    def __post_init__(self) -> None:
        self.met = bytearray(self.pages)

    def tree(self, tree: _Tree) -> Iterator[tuple[bytes, int, bytes]]:
        """Yields key, flags and value of each entry; of a value of pages of its own only what leads there."""
        counted = _Counted()
        if tree.root != _NO_ROOT:
            yield from self._below(tree, tree.root, tree.depth, b"", None, counted)
        if counted != tree.counted:
            raise DamagedPageError(f"a tree of {tree.counted} has {counted}")

    def _below(
        self, tree: _Tree, number: int, depth: int, low: bytes, high: bytes | None, counted: _Counted
    ) -> Iterator[tuple[bytes, int, bytes]]:
        page = self._page(number, _BRANCH if depth > 1 else _LEAF)
        keys, before = self._nodes(page, number, branch=depth > 1), low
        if depth > 1:
            counted.branches += 1
        else:
            counted.leaves += 1
        for place, (key, flags, start, about) in enumerate(keys):
            ordered = _sortable(key, tree.integer_keys)
            first = place == 0
            if depth > 1 and first:
                ordered = low  # LMDB looks at no key there
            inside = ordered >= before if first else ordered > before
            if not inside or (high is not None and ordered >= high):
                raise DamagedPageError(f"page {number} has keys out of order")
            before = ordered
            if depth > 1:
                above = _sortable(keys[place + 1][0], tree.integer_keys) if place + 1 < len(keys) else high
                yield from self._below(tree, about, depth - 1, ordered, above, counted)
                continue
            counted.entries += 1
            size = 8 if flags & _BIG else about
            if start + size > len(page):
                raise DamagedPageError(f"page {number} has a value beyond its end")
            value = page[start : start + size]
            if flags & _BIG:
                counted.overflow += self._overflow(_NUMBER.unpack(value)[0], about)
            yield key, flags, value

    def _nodes(self, page: bytes, number: int, *, branch: bool) -> list[tuple[bytes, int, int, int]]:
        """Reads key, flags, start of the value, and size of that, or number of the page below, of each node."""
        lower, upper = _HEADER.unpack_from(page)[3:]
        count = (lower - _HEADER.size) // 2
        if not _HEADER.size <= lower <= upper <= len(page) or lower % 2 or count < 1 + branch:
            raise DamagedPageError(f"page {number} has no nodes")
        nodes = []
        for (place,) in Struct("<H").iter_unpack(page[_HEADER.size : lower]):
            if not upper <= place <= len(page) - _NODE.size:
                raise DamagedPageError(f"page {number} has a node beyond its end")
            low, high, flags, key_bytes = _NODE.unpack_from(page, place)
            start = place + _NODE.size + key_bytes
            if start > len(page):
                raise DamagedPageError(f"page {number} has a key beyond its end")
            about = low | high << 16 | (flags << 32 if branch else 0)
            nodes.append((page[place + _NODE.size : start], 0 if branch else flags, start, about))
        return nodes

    def _overflow(self, number: int, value_bytes: int) -> int:
        """Checks the pages of a value, and counts them."""
        count = -(-(_HEADER.size + value_bytes) // self.page_bytes)
        page = self._page(number, _OVERFLOW)
        if _OVERFLOW_PAGES.unpack_from(page, 12)[0] != count:
            raise DamagedPageError(f"page {number} begins another value")
        for other in range(number + 1, number + count):
            self._meet(other)
        return count

    def _page(self, number: int, kind: int) -> bytes:
        self._meet(number)
        page = os.pread(self.descriptor, self.page_bytes, number * self.page_bytes)
        if len(page) < self.page_bytes or _HEADER.unpack_from(page)[0] != number:
            raise DamagedPageError(f"page {number} is another page")
        if _HEADER.unpack_from(page)[2] & _KINDS != kind:
            raise DamagedPageError(f"page {number} is of another kind")
        return page

    def _meet(self, number: int) -> None:
        if not 2 <= number < self.pages:
            raise DamagedPageError(f"page {number} is beyond the last one, {self.pages - 1}")
        if self.met[number]:
            raise DamagedPageError(f"page {number} is there twice")
        self.met[number] = 1


def _sortable(key: bytes, integer: bool) -> bytes:
    """Gives a key of whose kind the order is that of bytes."""
    return key[::-1] if integer else key


def check_pages(directory: Path, transaction: int) -> bool:
    """Checks all pages of a transaction that is open, so that nobody writes over them meanwhile.

    False where its record is gone already: two others were written since; begin another one.

    Raises:
        DamagedPageError: a page is not what LMDB wrote.
        OSError: the file cannot be read.
    """
    descriptor = os.open(directory / DATA, os.O_RDONLY)
    try:
        record = _record(descriptor, transaction)
        if record is None:
            return False
        page_bytes = _TREE.unpack_from(record, _META.size)[0]
        main = record[_META.size + _TREE.size : _META.size + 2 * _TREE.size]
        walk = _Walk(descriptor, page_bytes, _LAST.unpack_from(record, _META.size + 2 * _TREE.size)[0] + 1)
        for key, flags, value in walk.tree(_Tree.read(main)):
            if flags & _SUBTREE:
                if len(value) != _TREE.size:
                    raise DamagedPageError(f"the record of {key!r:.60} is none")
                for _ in walk.tree(_Tree.read(value)):
                    pass
        _check_free(walk, _Tree.read(record[_META.size : _META.size + _TREE.size], integer_keys=True))
        return True
    finally:
        os.close(descriptor)


def _record(descriptor: int, transaction: int) -> bytes | None:
    """Reads what the transaction says of the whole: two are kept, at the starts of the first two pages."""
    size = _META.size + 2 * _TREE.size + _LAST.size
    page_bytes = 4096
    for start in (0, page_bytes):
        record = os.pread(descriptor, size, start + _HEADER.size)
        if len(record) == size and _META.unpack_from(record)[:2] == (_MAGIC, 1):
            page_bytes = _TREE.unpack_from(record, _META.size)[0]
            if _LAST.unpack_from(record, size - _LAST.size)[1] == transaction:
                return record
    return None


def _check_free(walk: _Walk, tree: _Tree) -> None:
    """Checks that no page of a tree counts as free: the next write would go there."""
    free: list[int] = []
    for _, flags, value in walk.tree(tree):
        if flags & _BIG:
            start = _NUMBER.unpack(value)[0] * walk.page_bytes + _HEADER.size
            count = _NUMBER.unpack(os.pread(walk.descriptor, 8, start))[0]
            value = os.pread(walk.descriptor, min(8 + 8 * count, walk.pages * 8 + 8), start)
        numbers = [number for (number,) in _NUMBER.iter_unpack(value)]
        if not numbers or len(numbers) < numbers[0] + 1:
            raise DamagedPageError("the list of free pages is cut short")
        free += numbers[1 : numbers[0] + 1]
    for number in free:
        if not 2 <= number < walk.pages or walk.met[number]:
            raise DamagedPageError(f"page {number} counts as free, and is in use or beyond the last one")
        walk.met[number] = 1
