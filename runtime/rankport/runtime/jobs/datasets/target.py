"""`DatasetTarget`: a dataset of embedding tokens as the target of a copy.

Owns the staged folder, from which a copy that was killed goes on, and its parts. A part is read back and compared when
it is written; the folder gets its name when all of them are.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.protos.reasons import reason_of
from rankport.runtime.jobs.datasets.parts import read_part, schema_of, table_of, tokens_of, write_part
from rankport.runtime.store.contract import EntryInfo
from rankport.runtime.store.copy_ends import Batch, Copied, CopySource, CopyTarget
from rankport.runtime.store.token_spec import TokenSpec

PART_ROWS = 65_536


class DatasetTarget(CopyTarget):
    """Folder of Parquet parts, of which nothing is seen before it is complete."""

    def __init__(
        self, folder: Path, dataset_file: str, source: CopySource, spec: TokenSpec, part_rows: int = PART_ROWS
    ) -> None:
        """Begins, or goes on where one was killed that read the same source.

        Raises:
            InvalidRequest: the folder is there already.
            StoreError: no dtype of datasets, or the folder cannot be written.
        """
        if folder.exists():
            raise InvalidRequest(
                f"{folder} is there already: a dataset is made as a whole, give another folder"
            )
        self.spec = spec
        self._schema = schema_of(source.fingerprint, spec)
        self._folder, self._staged = folder, folder.with_name(f".{folder.name}.part")
        self._fingerprint, self._dataset_file, self._part_rows = source.fingerprint, dataset_file, part_rows
        about = f"{source.origin}, {spec}"
        note = self._staged / "origin"
        try:
            if self._staged.exists() and (not note.is_file() or note.read_text() != about):
                shutil.rmtree(self._staged)
            self._staged.mkdir(parents=True, exist_ok=True)
            note.write_text(about)
            for half_made in self._staged.glob(".*.writing"):
                half_made.unlink()
        except OSError as error:
            raise StoreError(f"dataset {folder} cannot be written: {reason_of(error)}") from error
        self._rows = {
            part: pq.read_metadata(part).num_rows for part in sorted(self._staged.glob("part-*.parquet"))
        }
        self._there = {
            id for part in self._rows for id in pq.read_table(part, columns=["id"])["id"].to_pylist()
        }
        self._waiting: list[tuple[Sequence[str], Sequence[EntryInfo], NDArray[np.floating]]] = []

    def absent(self, keys: Sequence[str], infos: Sequence[EntryInfo]) -> list[int]:
        """Returns the places of those items that are not staged yet."""
        return [place for place, key in enumerate(keys) if key not in self._there]

    def write(self, keys: Sequence[str], infos: Sequence[EntryInfo], tokens: NDArray[np.floating]) -> None:
        """Stages items, durably once there are enough for a part. Raises `StoreError`."""
        self._waiting.append((keys, infos, tokens))
        if sum(len(waiting) for waiting, _, _ in self._waiting) >= self._part_rows:
            self._write_part()

    @contextmanager
    def reading(self) -> Iterator[Copied]:
        """Writes the last part; all were compared when they were written."""
        if self._waiting:
            self._write_part()
        yield _ComparedParts(sum(self._rows.values()))

    def publish(self) -> None:
        """States which parts there are, and gives the folder its name."""
        content = {
            "format": "rankport-dataset",
            "format_version": 1,
            "encoder": self._fingerprint,
            "spec": json.loads(self.spec.to_json()),
            "parts": [{"name": part.name, "rows": rows} for part, rows in self._rows.items()],
        }
        try:
            (self._staged / self._dataset_file).write_text(json.dumps(content, indent=1) + "\n")
            (self._staged / "origin").unlink()
            self._staged.rename(self._folder)
        except OSError as error:
            raise StoreError(f"dataset {self._folder} cannot be written: {reason_of(error)}") from error

    def close(self) -> None:
        """Leaves what is staged to a copy that goes on. Closing twice does nothing."""

    def _write_part(self) -> None:
        keys = [key for waiting, _, _ in self._waiting for key in waiting]
        hashes = [info.content_hash for _, infos, _ in self._waiting for info in infos]
        tokens = np.concatenate([rows for _, _, rows in self._waiting])
        part = self._staged / f"part-{len(self._rows):07d}.parquet"
        write_part(part, table_of(self._schema, keys, tokens, hashes))
        read = read_part(part)
        same = read.column("id").to_pylist() == keys and read.column("content_hash").to_pylist() == hashes
        if not same or tokens_of(read, self.spec).tobytes() != tokens.tobytes():
            part.unlink()
            raise StoreError(f"{part} is not what was written: the disk fails; run the copy again")
        self._rows[part] = len(keys)
        self._waiting.clear()


class _ComparedParts:
    def __init__(self, rows: int) -> None:
        self._count = rows

    def differing(self, batch: Batch, tokens: NDArray[np.floating]) -> list[int]:
        return []

    def __len__(self) -> int:
        return self._count
