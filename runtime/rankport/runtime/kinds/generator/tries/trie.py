"""`TokenTrie`: the token sequences that there are, semantic IDs say, as a memory-mapped trie.

Level by level, as arrays: a node is its place in its level, its children are consecutive in the next one. Sequences are
of one length, and several items may have the same one. On disk it is a folder of numpy arrays; opening it reads none.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import checked_text
from rankport.protos.errors import BundleError, InvalidRequest, StoreError
from rankport.protos.files.arrays import UNREADABLE
from rankport.protos.reasons import array_reason, reason_of
from rankport.protos.wording import counted
from rankport.runtime.backends.mapped_files import MappedFiles
from rankport.runtime.bundle.strict_json import strict_json

FORMAT, VERSION, HEADER = "rankport-trie", 2, "trie.json"
_REMEDY = "build a trie in another folder and rename it into the place"


_NO_TRIE: tuple[type[Exception], ...] = (*UNREADABLE, KeyError, BundleError)


@dataclass(frozen=True, slots=True)
class TokenTrie:
    """Sequences of `levels` tokens each, and the items that have them."""

    tokens: tuple[NDArray[np.int32], ...]  # of each level: [nodes] ascending among the children of one parent
    children: tuple[NDArray[np.int64], ...]  # of each level's parents: [nodes of the level above + 1] places
    items_of: NDArray[np.int64]  # [last level's nodes + 1] places in `items`
    items: NDArray[np.int64]  # [items] place of each as it was given
    key_bytes: NDArray[np.uint8]  # UTF-8 of all keys behind each other, as they were given
    key_offsets: NDArray[np.int64]  # [items + 1]
    vocabulary: int  # tokens that there are, more than any of a sequence
    files: MappedFiles | None = field(default=None, compare=False)  # of one that is mapped

    @classmethod
    def of(cls, keys: Sequence[str], sequences: NDArray[np.integer], vocabulary: int) -> Self:
        """Makes the trie of items, sequences [items, levels]. Raises `InvalidRequest` naming the first bad item."""
        _check(keys, sequences, vocabulary)
        order = np.lexsort(sequences.T[::-1])
        rows = sequences[order].astype(np.int32)
        opens = np.zeros(len(rows), np.bool_)
        opens[0] = True
        starts = [np.zeros(1, np.int64)]  # rows at which the nodes of a level begin; of the root: the first
        tokens = []
        for column in rows.T:
            opens[1:] |= column[1:] != column[:-1]
            starts.append(np.flatnonzero(opens))
            tokens.append(column[starts[-1]])
        children = [np.append(np.searchsorted(below, above), len(below)) for above, below in pairwise(starts)]
        encoded = [key.encode() for key in keys]
        offsets = np.concatenate([[0], np.cumsum([len(key) for key in encoded])]).astype(np.int64)
        return cls(
            tuple(tokens),
            tuple(children),
            np.append(starts[-1], len(rows)),
            order.astype(np.int64),
            np.frombuffer(b"".join(encoded), np.uint8),
            offsets,
            vocabulary,
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Maps the trie in a folder. Raises `StoreError` for what is none, or not whole."""
        folder = Path(path)
        header = _header(folder)
        try:
            levels = range(int(header["levels"]))
            int(header["vocabulary"])
            paths = {name: folder / f"{name}.npy" for name in _names(len(levels))}
            files = MappedFiles.of_paths(paths.values(), _REMEDY)
            arrays = {name: np.load(path, mmap_mode="r") for name, path in paths.items()}
            files.check_opened()
        except _NO_TRIE as error:
            raise StoreError(
                f"trie {str(folder)!r} cannot be read: {array_reason(error)}: build it again"
            ) from error
        trie = cls(
            tuple(arrays[f"tokens_{level}"] for level in levels),
            tuple(arrays[f"children_{level}"] for level in levels),
            arrays["items_of"],
            arrays["items"],
            arrays["key_bytes"],
            arrays["key_offsets"],
            int(header["vocabulary"]),
            files,
        )
        if (trie.count, trie.nodes) != (header.get("items"), header.get("nodes")):
            raise StoreError(f"trie {str(folder)!r} has other arrays than its {HEADER} says: build it again")
        return trie

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a folder, which appears whole or not at all, in folders that are made where they lack.

        Raises `StoreError` if there is one already, or it cannot be written: nothing is left of it then.
        """
        folder = Path(path)
        if folder.exists():
            raise StoreError(f"trie {str(folder)!r} exists already: remove it, or write to another folder")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
                staged = Path(beside) / folder.name
                staged.mkdir(mode=0o755)
                self._write(staged)
                staged.rename(folder)
        except OSError as error:
            raise StoreError(f"trie {str(folder)!r} cannot be written: {reason_of(error)}") from error

    def _write(self, staged: Path) -> None:
        arrays = [*self.tokens, *self.children, *(getattr(self, name) for name in _WHOLE)]
        for name, array in zip(_names(self.levels), arrays, strict=True):
            np.save(staged / f"{name}.npy", array)
        header = {"format": FORMAT, "version": VERSION, "levels": self.levels, "vocabulary": self.vocabulary}
        header |= {"items": self.count, "nodes": self.nodes}
        (staged / HEADER).write_text(json.dumps(header) + "\n", encoding="utf-8")

    def check(self) -> None:
        """Raises `StoreError` where its files were written over or cut since it was opened: no array may be read."""
        if self.files is not None and (told := self.files.changed()):
            raise StoreError(told)

    @property
    def levels(self) -> int:
        """Tokens of each sequence."""
        return len(self.tokens)

    @property
    def count(self) -> int:
        """Items."""
        return len(self.items)

    @property
    def nodes(self) -> list[int]:
        """Nodes of each level."""
        return [len(tokens) for tokens in self.tokens]

    def below(self, level: int, nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Lists the children, at `level`, of nodes of the level above: whose each is, and its place. [children] each

        Raises `StoreError` as `check`.
        """
        self.check()
        first, last = self.children[level][nodes], self.children[level][nodes + 1]
        counts = last - first
        parents = np.repeat(np.arange(len(nodes)), counts)
        ends = np.cumsum(counts)
        return parents, np.arange(len(parents)) - np.repeat(ends - counts, counts) + np.repeat(first, counts)

    def keys_of(self, leaf: int) -> list[str]:
        """Lists the keys of the items that have a sequence, as they were given."""
        items = np.sort(self.items[self.items_of[leaf] : self.items_of[leaf + 1]])
        spans = ((self.key_offsets[item], self.key_offsets[item + 1]) for item in items)
        return [self.key_bytes[start:end].tobytes().decode() for start, end in spans]


_WHOLE = ("items_of", "items", "key_bytes", "key_offsets")


def _names(levels: int) -> Iterable[str]:
    return (*(f"{part}_{level}" for part in ("tokens", "children") for level in range(levels)), *_WHOLE)


def _check(keys: Sequence[str], sequences: NDArray[np.integer], vocabulary: int) -> None:
    if sequences.ndim != 2 or not sequences.size or len(sequences) != len(keys):
        raise InvalidRequest(
            f"{counted(len(keys), 'key')} and sequences of shape {sequences.shape}: give a row of tokens a "
            "key, at least one"
        )
    if not np.issubdtype(sequences.dtype, np.integer):
        raise InvalidRequest(f"sequences are of {sequences.dtype}: tokens are whole numbers")
    for row, key in enumerate(keys):
        if isinstance(key, str) and key and key.isascii():
            continue  # of ten million keys most are told by that
        if not checked_text(key, f"item {row}, key"):
            raise InvalidRequest(f"item {row}: its key is an empty text")
    wrong = np.flatnonzero(((sequences < 0) | (sequences >= vocabulary)).any(axis=1))
    if len(wrong):
        row = int(wrong[0])
        raise InvalidRequest(
            f"item {row}, {keys[row]!r}: of {sequences[row].tolist()} not all are tokens, 0 to {vocabulary - 1}"
        )
    if len(set(keys)) < len(keys):
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        twice = next(row for row, key in enumerate(keys) if first[key] != row)
        raise InvalidRequest(f"item {twice}: key {keys[twice]!r} is given twice")


def _header(folder: Path) -> dict[str, Any]:
    try:
        header = strict_json((folder / HEADER).read_bytes(), HEADER)
    except (OSError, BundleError) as error:
        raise StoreError(
            f"trie {str(folder)!r} cannot be read: {array_reason(error)}: build it again"
        ) from error
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise StoreError(f"{folder / HEADER} is not of {FORMAT} {VERSION}: build the trie again")
    return header
