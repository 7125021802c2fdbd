"""`PartMaker`: the rows of a window to a part of a dataset, made or found. Owns what a part is named by, and tells.

A part is named by all that decides it; one that is there is not made again, unless the encoder failed on a row of it.
It has two names then: what the dataset that stands names is never written over, so that this stays whole until the next
one is.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from rankport.runtime.jobs.batching import length_batches
from rankport.runtime.jobs.config import EncodeJobConfig
from rankport.runtime.jobs.datasets import DatasetFormat
from rankport.runtime.jobs.datasets.folder import named_parts
from rankport.runtime.jobs.datasets.formats import files_in, write_part
from rankport.runtime.jobs.datasets.groups import place_in_group
from rankport.runtime.jobs.datasets.part_rows import PartRows, PartSpec, schema_of_part
from rankport.runtime.jobs.row_encoder import Encoder, RowEncoder
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.records import BadRow

OUTCOME = b"rankport.window"  # key of a part's metadata: JSON of the window's `Outcome`


@dataclass(frozen=True, slots=True)
class Target:
    """Dataset that parts are written to, and whose tokens or weights they have."""

    folder: str
    fingerprint: str
    spec: PartSpec
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


class PartMaker:
    """Turns windows into parts, with an encoder that is here."""

    def __init__(self, encoder: Encoder, target: Target) -> None:
        self._encoder, self._target = encoder, target
        self._schema, self._files = (
            schema_of_part(target.fingerprint, target.spec),
            files_in(target.part_format),
        )
        self._standing = named_parts(Path(target.folder))

    def part(self, place: Place, rows: Rows, repeated: frozenset[Line]) -> tuple[Outcome, bool]:
        """Finds or makes the part of a window, whose `repeated` lines have ids that came earlier; and says if it did.

        Raises as `RowEncoder.encode` and `write_part`.
        """
        outcome, made = self._part(place, rows, repeated)
        by_line = {line_of(row): row for row in rows} if outcome.bad_rows else {}
        places = outcome.places or [0] * len(outcome.bad_rows)
        contents = [
            as_bad(by_line[place, bad[0]]).content
            for place, bad in zip(places, outcome.bad_rows, strict=True)
        ]
        return replace(outcome, contents=contents), made

    def _part(self, place: Place, rows: Rows, repeated: frozenset[Line]) -> tuple[Outcome, bool]:
        usable = [row for row in rows if isinstance(row, ItemRow) and line_of(row) not in repeated]
        bad = [as_bad(row) for row in rows if isinstance(row, BadRow) or line_of(row) in repeated]
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
        encoded, failed = PartRows(spec), 0
        for rows_of_batch in length_batches(usable, config.batch_size):
            batch = encoder.encode(rows_of_batch)
            bad += batch.bad
            failed += len(batch.failed)
            encoded.take(batch.encoded)
        bad.sort(key=line_of)
        outcome = Outcome(
            part=path.name,
            rows=len(rows),
            encoded=len(encoded),
            truncated=encoded.truncated,
            bad_rows=[(row.line, row.reason, row.id) for row in bad],
            places=[place_in_group(row) for row in bad],
            failed=failed,
        )
        schema = self._schema.with_metadata(
            {**self._schema.metadata, OUTCOME: json.dumps(outcome.without_contents()).encode()}
        )
        write_part(path, encoded.table(schema))
        return outcome, True


def as_bad(row: ItemRow | BadRow) -> BadRow:
    """Takes a row as a bad one: that is one, or whose id came earlier."""
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
