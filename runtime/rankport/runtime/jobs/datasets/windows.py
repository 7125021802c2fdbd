"""Windows of rows on their way through Ray: how they are read, told apart and encoded. Runs in Ray's workers.

A window is the rows of one file, or of small ones that follow each other, that are sorted by length together, as in a
job of one process: its batches, and so the bits of its tokens, are the same wherever it is encoded. Its part is named
by all that decides it; a part that is there is not made again, unless the encoder failed on a row of it. It has two
names then: what the dataset that stands names is never written over, so that this stays whole until the next one is.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from rankport.runtime.jobs.batching import chunks, length_batches, windows
from rankport.runtime.jobs.config import EncodeJobConfig
from rankport.runtime.jobs.datasets import DatasetFormat
from rankport.runtime.jobs.datasets.folder import named_parts
from rankport.runtime.jobs.datasets.formats import files_in, write_part
from rankport.runtime.jobs.datasets.groups import FileGroup, place_in_group
from rankport.runtime.jobs.datasets.parts import schema_of, table_of
from rankport.runtime.jobs.row_encoder import Encoder, RowEncoder, content_hash
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.items_file import Stamp
from rankport.runtime.jobs.rows.records import BadRow, Span
from rankport.runtime.store.token_spec import TokenSpec

ID_BYTES = 16
OUTCOME = b"rankport.window"  # key of a part's metadata: JSON of the window's `Outcome`


@dataclass(frozen=True, slots=True)
class Target:
    """Dataset that parts are written to, and whose tokens they have."""

    folder: str
    fingerprint: str
    spec: TokenSpec
    config: EncodeJobConfig
    part_format: DatasetFormat = "parquet"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Fate of a window's rows: each is encoded or bad."""

    part: str
    rows: int
    encoded: int
    truncated: int
    bad_rows: list[tuple[int, str, str | None]]  # line, reason, id
    contents: list[str] = field(default_factory=list)  # of the bad rows; never in a part
    places: list[int] = field(default_factory=list)  # of the bad rows' files in their group; empty: all 0
    failed: int = 0  # bad rows by a fault of the encoder's: the next job makes the part anew

    def without_contents(self) -> dict[str, Any]:
        """Gives what a part says of it."""
        said = {"places": any(self.places), "failed": self.failed}
        return {key: kept for key, kept in (asdict(self) | {"contents": []}).items() if said.get(key, True)}


class Place(NamedTuple):
    """Place of a window among the input's, from 0."""

    file: int  # the first one of its group
    window: int


Line = tuple[int, int]
"""Place of a row's file in its group, and its line there."""
Rows = Sequence[ItemRow | BadRow]
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


class PartMaker:
    """Turns windows into parts, with an encoder that is here."""

    def __init__(self, encoder: Encoder, target: Target) -> None:
        self._encoder, self._target = encoder, target
        self._schema, self._files = schema_of(target.fingerprint, target.spec), files_in(target.part_format)
        self._standing = named_parts(Path(target.folder))

    def part(self, place: Place, rows: Rows, repeated: frozenset[Line]) -> tuple[Outcome, bool]:
        """Finds or makes the part of a window, whose `repeated` lines have ids that came earlier; and says if it did.

        Raises as `RowEncoder.encode` and `write_part`.
        """
        outcome, made = self._part(place, rows, repeated)
        by_line = {line_of(row): row for row in rows} if outcome.bad_rows else {}
        places = outcome.places or [0] * len(outcome.bad_rows)
        contents = [
            _bad(by_line[place, bad[0]]).content for place, bad in zip(places, outcome.bad_rows, strict=True)
        ]
        return replace(outcome, contents=contents), made

    def _part(self, place: Place, rows: Rows, repeated: frozenset[Line]) -> tuple[Outcome, bool]:
        usable = [row for row in rows if isinstance(row, ItemRow) and line_of(row) not in repeated]
        bad = [_bad(row) for row in rows if isinstance(row, BadRow) or line_of(row) in repeated]
        names = _part_names(place, usable, bad, self._target)
        paths = [Path(self._target.folder) / (name + self._files.suffix) for name in names]
        whole = [path for path in paths if self._files.is_whole(path)]
        for path in whole:
            before = Outcome(**json.loads(self._files.schema(path).metadata[OUTCOME]))
            if not before.failed:
                return before, False
        path = next(path for path in paths if path not in whole or path.name not in self._standing)
        # One for each window: what breaks in one says nothing of the next.
        config, spec = self._target.config, self._target.spec
        encoder = RowEncoder(self._encoder, config.truncation, config.max_failures_in_a_row, spec.numpy_dtype)
        batches = [encoder.encode(rows) for rows in length_batches(usable, config.batch_size)]
        bad += [row for batch in batches for row in batch.bad]
        encoded = [row for batch in batches for row in batch.encoded]
        bad.sort(key=line_of)
        outcome = Outcome(
            part=path.name,
            rows=len(rows),
            encoded=len(encoded),
            truncated=sum(row.truncated for row in encoded),
            bad_rows=[(row.line, row.reason, row.id) for row in bad],
            places=[place_in_group(row) for row in bad],
            failed=sum(len(batch.failed) for batch in batches),
        )
        tokens = np.array([row.tokens for row in encoded], spec.numpy_dtype)
        hashes = [content_hash(row.row.text, truncated=row.truncated) for row in encoded]
        schema = self._schema.with_metadata(
            {**self._schema.metadata, OUTCOME: json.dumps(outcome.without_contents()).encode()}
        )
        shaped = tokens.reshape(len(encoded), spec.tokens, spec.hidden_size)
        write_part(path, table_of(schema, [row.row.id for row in encoded], shaped, hashes))
        return outcome, True


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
    contents = [_bad(row).content if with_contents else "" for row in rows]
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


def _bad(row: ItemRow | BadRow) -> BadRow:
    if isinstance(row, BadRow):
        return row
    return row.bad(f"id {row.id!r} came earlier in the input")


def line_of(row: ItemRow | BadRow) -> Line:
    """Tells which row of its group it is."""
    return place_in_group(row), row.line


def file_of(part: str) -> int:
    """Reads the number of its first file from a part's name."""
    return int(part.split("-")[1])


def _part_names(
    place: Place, usable: Sequence[ItemRow], bad: Sequence[BadRow], target: Target
) -> tuple[str, str]:
    """Names a part in two ways, but for its format, by its place and by the hash of all that decides it."""
    config = target.config
    decides = [
        [target.fingerprint, target.spec.dtype, config.batch_size, config.truncation],
        [(row.line, row.id, row.text) for row in usable],
        [(row.line, row.id, row.reason) for row in bad],
    ]
    files = [row.file for row in usable], [row.file for row in bad]
    if any(map(any, files)):  # a row that fails to be encoded is told with its file
        decides.append(list(files))
    digest = blake2b(json.dumps(decides).encode(), digest_size=8).digest()
    start = f"part-{place.file:05d}-{place.window:07d}-"
    return start + digest.hex(), start + blake2b(digest, digest_size=8).hexdigest()
