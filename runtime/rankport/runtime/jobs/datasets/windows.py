"""Windows of rows on their way through Ray: how they are read, told apart and encoded. Runs in Ray's workers.

A window is the rows of one file, or of small ones that follow each other, that are sorted by length together, as in a
job of one process: its batches, and so the bits of its tokens, are the same wherever it is encoded.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from hashlib import blake2b
from typing import Any, NamedTuple

import pyarrow as pa

from rankport.runtime.jobs.batching import chunks, windows
from rankport.runtime.jobs.datasets.groups import FileGroup, place_in_group
from rankport.runtime.jobs.datasets.part_maker import Outcome, PartMaker, Place, Target, as_bad
from rankport.runtime.jobs.row_encoder import Encoder
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.items_file import Stamp
from rankport.runtime.jobs.rows.records import BadRow, Span

ID_BYTES = 16
MakeEncoder = Callable[[], AbstractContextManager[Encoder]]
Duplicates = Mapping[int, frozenset[int]]
"""Lines, by file, of rows whose id came earlier."""
_HASHED = pa.schema({"file": pa.int64(), "line": pa.int64(), "hash": pa.binary(ID_BYTES)})


class Piece(NamedTuple):
    """Rows of a group that a task reads: whole windows, but for the group's last one."""

    group: int
    span: Span
    stamps: list[Stamp]  # of the files when they were cut

    def to_json(self) -> str:
        """Writes it down for a worker."""
        return json.dumps([self.group, asdict(self.span), self.stamps])

    @classmethod
    def from_json(cls, text: str) -> "Piece":
        """Reads what `to_json` wrote."""
        group, span, stamps = json.loads(text)
        return cls(group, Span(**span), [(size, modified_ns) for size, modified_ns in stamps])

    def rows(self, groups: Sequence[FileGroup]) -> Iterator[ItemRow | BadRow]:
        """Yields the rows; raises as `ItemsFile.rows`."""
        return groups[self.group].rows(self.span, self.stamps)


def pieces_of(groups: Sequence[FileGroup], rows: int, batch: pa.Table) -> pa.Table:
    """Cuts the groups that a batch names into pieces, as JSON."""
    pieces = [
        Piece(number, span, stamps).to_json()
        for number in batch.column("group").to_pylist()
        for stamps in [groups[number].stamps()]
        for span in groups[number].spans(rows)
    ]
    return pa.table({"piece": pieces})


def _pieces(batch: pa.Table) -> Iterator[Piece]:
    return map(Piece.from_json, batch.column("piece").to_pylist())


def hashed_ids(groups: Sequence[FileGroup], batch: pa.Table) -> Iterator[pa.Table]:
    """Yields file, line and hash [16] of the id of each usable row of the pieces that a batch names."""
    for piece in _pieces(batch):
        first = groups[piece.group].first
        usable = (row for row in piece.rows(groups) if isinstance(row, ItemRow))
        hashed = (
            (first + place_in_group(row), row.line, blake2b(row.id.encode(), digest_size=ID_BYTES).digest())
            for row in usable
        )
        for rows in chunks(hashed, 100_000):
            columns = zip(zip(*rows, strict=True), _HASHED.types, strict=True)
            yield pa.Table.from_arrays([pa.array(*column) for column in columns], schema=_HASHED)


def windows_of(
    groups: Sequence[FileGroup], window_rows: int, with_contents: bool, batch: pa.Table
) -> Iterator[pa.Table]:
    """Yields the windows of the pieces that a batch names, a row of lists each; contents only if they are asked for."""
    for piece in _pieces(batch):
        first = piece.span.first // window_rows
        for number, rows in windows(piece.rows(groups), window_rows):
            yield _window(groups[piece.group].first, first + number, rows, with_contents)


class EncodeWindows:
    """Actor: holds the encoder, and turns the windows that come to it into parts."""

    def __init__(self, make_encoder: MakeEncoder, target: Target, duplicates: Duplicates) -> None:
        self._held = make_encoder()
        self._maker = PartMaker(self._held.__enter__(), target)
        self._duplicates = duplicates

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Writes the parts of a batch of windows, and returns what became of each as JSON."""
        found = [self._part(window) for window in batch.to_pylist()]
        return pa.table(
            {
                "outcome": [json.dumps(asdict(outcome)) for outcome, _ in found],
                "made": [made for _, made in found],
            }
        )

    def _part(self, window: Mapping[str, Any]) -> tuple[Outcome, bool]:
        columns = zip(
            *(window[name] for name in ("places", "lines", "ids", "texts", "reasons", "contents")),
            strict=True,
        )
        rows = [
            ItemRow(line, id, text, file=place, values=json.loads(content) if content else None)
            if reason is None
            else BadRow(line, reason, id, place, content)
            for place, line, id, text, reason, content in columns
        ]
        first = window["file"]
        repeated = frozenset(
            (place, line)
            for place in {place_in_group(row) for row in rows}
            for line in self._duplicates.get(first + place, ())
        )
        return self._maker.part(Place(first, window["window"]), rows, repeated)


def _window(number: int, index: int, rows: Sequence[ItemRow | BadRow], with_contents: bool) -> pa.Table:
    texts = [row.text if isinstance(row, ItemRow) else None for row in rows]
    reasons = [row.reason if isinstance(row, BadRow) else None for row in rows]
    contents = [as_bad(row).content if with_contents else "" for row in rows]
    return pa.table(
        {
            "file": pa.array([number], pa.int64()),
            "window": pa.array([index], pa.int64()),
            "places": pa.array([[row.file for row in rows]], pa.list_(pa.string())),
            "lines": pa.array([[row.line for row in rows]], pa.list_(pa.int64())),
            "ids": pa.array([[row.id for row in rows]], pa.list_(pa.string())),
            "texts": pa.array([texts], pa.list_(pa.string())),
            "reasons": pa.array([reasons], pa.list_(pa.string())),
            "contents": pa.array([contents], pa.list_(pa.string())),
        }
    )
