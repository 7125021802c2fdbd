"""Windows of rows on their way through Ray: how they are read, told apart and encoded. Runs in Ray's workers.

A window is the rows of one file that are sorted by length together, as in a job of one process: its batches, and so
the bits of its tokens, are the same wherever it is encoded. Its part is named by all that decides it; a part that is
there is not made again.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rankport.runtime.jobs.config import EncodeJobConfig
from rankport.runtime.jobs.datasets.parts import schema_of, table_of, write_part
from rankport.runtime.jobs.items_file import BadRow, ItemRow, ItemsFile
from rankport.runtime.jobs.row_encoder import Encoder, RowEncoder, chunks, content_hash, length_batches
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """Fate of a window's rows: each is encoded or bad."""

    part: str
    rows: int
    encoded: int
    truncated: int
    bad_rows: list[tuple[int, str, str | None]]  # line, reason, id


MakeEncoder = Callable[[], AbstractContextManager[Encoder]]
Duplicates = Mapping[int, frozenset[int]]
"""Lines, by file, of rows whose id came earlier."""


def hashed_ids(files: Sequence[ItemsFile], batch: pa.Table) -> Iterator[pa.Table]:
    """Yields file, line and hash [16] of the id of each usable row of the files that a batch names."""
    for number in batch.column("file").to_pylist():
        for rows in chunks(files[number].rows(), 100_000):
            usable = [row for row in rows if isinstance(row, ItemRow)]
            hashes = [blake2b(row.id.encode(), digest_size=ID_BYTES).digest() for row in usable]
            yield pa.table(
                {
                    "file": pa.array([number] * len(usable), pa.int64()),
                    "line": pa.array([row.line for row in usable], pa.int64()),
                    "hash": pa.array(hashes, pa.binary(ID_BYTES)),
                }
            )


def windows_of(files: Sequence[ItemsFile], window_rows: int, batch: pa.Table) -> Iterator[pa.Table]:
    """Yields the windows of the files that a batch names, a row of lists each."""
    for number in batch.column("file").to_pylist():
        for index, rows in enumerate(chunks(files[number].rows(), window_rows)):
            yield _window(number, index, rows)


class EncodeWindows:
    """Actor: holds the encoder, and turns windows into parts."""

    def __init__(self, make_encoder: MakeEncoder, target: Target, duplicates: Duplicates) -> None:
        self._held = make_encoder()
        self._encoder = self._held.__enter__()
        self._target, self._duplicates = target, duplicates
        self._schema = schema_of(target.fingerprint, target.spec)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Writes the parts of a batch of windows, and returns what became of each as JSON."""
        found = [self._found_or_made(window) for window in batch.to_pylist()]
        return pa.table(
            {
                "outcome": [json.dumps(asdict(outcome)) for outcome, _ in found],
                "made": [made for _, made in found],
            }
        )

    def _found_or_made(self, window: Mapping[str, list[object]]) -> tuple[Outcome, bool]:
        name = _part_name(window, self._target)
        path = Path(self._target.folder) / name
        if path.is_file():
            return Outcome(**json.loads(pq.read_schema(path).metadata[OUTCOME])), False
        return self._made(window, path), True

    def _made(self, window: Mapping[str, list[object]], path: Path) -> Outcome:
        rows = _rows(window)
        repeated = self._duplicates.get(_number(window["file"]), frozenset())
        usable = [row for row in rows if isinstance(row, ItemRow) and row.line not in repeated]
        bad = [
            row
            if isinstance(row, BadRow)
            else BadRow(row.line, f"id {row.id!r} came earlier in the input", row.id)
            for row in rows
            if isinstance(row, BadRow) or row.line in repeated
        ]
        # One for each window: what breaks in one says nothing of the next.
        config = self._target.config
        encoder = RowEncoder(self._encoder, config.truncation, config.max_failures_in_a_row)
        batches = [encoder.encode(rows) for rows in length_batches(usable, config.batch_size)]
        bad += [row for batch in batches for row in batch.bad]
        encoded = [row for batch in batches for row in batch.encoded]
        shape = (len(encoded), self._target.spec.tokens, self._target.spec.hidden_size)
        tokens = np.array([row.tokens for row in encoded], self._target.spec.numpy_dtype).reshape(shape)
        outcome = Outcome(
            part=path.name,
            rows=len(rows),
            encoded=len(encoded),
            truncated=sum(row.truncated for row in encoded),
            bad_rows=[(row.line, row.reason, row.id) for row in sorted(bad, key=lambda row: row.line)],
        )
        hashes = [content_hash(row.row.text, truncated=row.truncated) for row in encoded]
        schema = self._schema.with_metadata(
            {**self._schema.metadata, OUTCOME: json.dumps(asdict(outcome)).encode()}
        )
        write_part(path, table_of(schema, [row.row.id for row in encoded], tokens, hashes))
        return outcome


def _window(number: int, index: int, rows: Sequence[ItemRow | BadRow]) -> pa.Table:
    texts = [row.text if isinstance(row, ItemRow) else None for row in rows]
    reasons = [row.reason if isinstance(row, BadRow) else None for row in rows]
    return pa.table(
        {
            "file": pa.array([number], pa.int64()),
            "window": pa.array([index], pa.int64()),
            "lines": pa.array([[row.line for row in rows]], pa.list_(pa.int64())),
            "ids": pa.array([[row.id for row in rows]], pa.list_(pa.string())),
            "texts": pa.array([texts], pa.list_(pa.string())),
            "reasons": pa.array([reasons], pa.list_(pa.string())),
        }
    )


def _rows(window: Mapping[str, list[object]]) -> list[ItemRow | BadRow]:
    columns = zip(*(window[name] for name in ("lines", "ids", "texts", "reasons")), strict=True)
    return [
        ItemRow(line, id, text) if reason is None else BadRow(line, reason, id)
        for line, id, text, reason in columns
    ]


def _part_name(window: Mapping[str, list[object]], target: Target) -> str:
    """Names a part by its place and by the hash of all that decides it."""
    config = target.config
    decides = [target.fingerprint, target.spec.dtype, config.batch_size, config.truncation, window]
    digest = blake2b(json.dumps(decides, sort_keys=True).encode(), digest_size=8).hexdigest()
    return f"part-{_number(window['file']):05d}-{_number(window['window']):07d}-{digest}.parquet"


def _number(value: object) -> int:
    assert isinstance(value, int), "a window's place is two numbers"
    return value
