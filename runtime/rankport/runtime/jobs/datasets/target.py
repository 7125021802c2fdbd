"""`DatasetTarget`: a dataset of embedding tokens as the target of a copy.

Owns the staged folder, from which a copy that was killed goes on, and its parts. A part is read back and compared when
it is written; the folder gets its name when all of them are.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.protos.reasons import reason_of
from rankport.runtime.jobs.datasets import DATASET_FILE, DatasetFormat
from rankport.runtime.jobs.datasets.folder import locked
from rankport.runtime.jobs.datasets.formats import files_in, parts_in, write_part
from rankport.runtime.jobs.datasets.part_files import write_durably
from rankport.runtime.jobs.datasets.parts import read_part, schema_of, table_of, tokens_of
from rankport.runtime.store.contract import EntryInfo
from rankport.runtime.store.copy_ends import Batch, Copied, CopySource, CopyTarget
from rankport.runtime.store.durable_files import sync_names
from rankport.runtime.store.token_spec import TokenSpec

PART_ROWS = 65_536


class DatasetTarget(CopyTarget):
    """Folder of parts, of which nothing is seen before it is complete."""

    def __init__(
        self,
        folder: Path,
        source: CopySource,
        spec: TokenSpec,
        part_format: DatasetFormat = "parquet",
        part_rows: int = PART_ROWS,
    ) -> None:
        """Begins, or goes on where one was killed that read the same source.

        Raises:
            InvalidRequest: the folder is there already.
            StoreError: no dtype of datasets, the folder cannot be written, or another copy fills it.
        """
        if folder.exists():
            raise InvalidRequest(
                f"{folder} is there already: a dataset is made as a whole, give another folder"
            )
        self.spec = spec
        self._schema, self._files = schema_of(source.fingerprint, spec), files_in(part_format)
        self._folder, self._staged = folder, folder.with_name(f".{folder.name}.part")
        self._fingerprint, self._part_rows = source.fingerprint, part_rows
        about = f"{source.origin}, {spec}, {part_format}"
        note = self._staged / "origin"
        try:
            self._staged.mkdir(parents=True, exist_ok=True)
            self._lock = locked(self._staged, folder)
        except OSError as error:
            raise StoreError(f"dataset {folder} cannot be written: {reason_of(error)}") from error
        with ExitStack() as failed:
            failed.callback(self.close)
            try:
                if not self._goes_on(note, about):
                    _empty(self._staged)
                note.write_text(about)
                for half_made in self._staged.glob(".*.writing"):
                    half_made.unlink()
            except OSError as error:
                raise StoreError(f"dataset {folder} cannot be written: {reason_of(error)}") from error
            self._rows: dict[Path, int] = {}
            self._there: set[str] = set()
            for part in parts_in(self._staged):
                self._count(part)
            failed.pop_all()
        self._waiting: list[tuple[Sequence[str], Sequence[EntryInfo], NDArray[np.floating]]] = []

    def _count(self, part: Path) -> None:
        """Takes in what a staged part has. Raises StoreError for one that cannot be read."""
        try:
            self._rows[part] = self._files.count(part)
            for batch in self._files.batches(part, PART_ROWS):
                self._there.update(batch.column("id").to_pylist())
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"{part}, staged by a copy before, cannot be read: {error}: delete it, and run the copy again"
            ) from error

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
            self._files.join(self._staged, list(self._rows), self._schema)
            self._files.tidy(self._staged)  # of copies that were killed
            text = json.dumps(content, indent=1) + "\n"
            write_durably(self._staged / DATASET_FILE, lambda stream: stream.write(text.encode()))
            (self._staged / "origin").unlink()
            sync_names(self._staged)
            self._staged.rename(self._folder)
            sync_names(self._folder.parent)
        except OSError as error:
            raise StoreError(f"dataset {self._folder} cannot be written: {reason_of(error)}") from error

    def close(self, *, spoiled: bool = False) -> None:
        """Leaves what is staged to a copy that goes on, or to be made anew. Closing twice does nothing."""
        if spoiled:
            (self._staged / "origin").unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _goes_on(self, note: Path, about: str) -> bool:
        """Says whether what is staged is of this copy, and whole as far as it goes."""
        of_this = note.is_file() and note.read_text() == about
        return of_this and all(map(self._files.is_whole, parts_in(self._staged)))

    def _write_part(self) -> None:
        keys = [key for waiting, _, _ in self._waiting for key in waiting]
        hashes = [info.content_hash for _, infos, _ in self._waiting for info in infos]
        tokens = np.concatenate([rows for _, _, rows in self._waiting])
        part = self._staged / f"part-{len(self._rows):07d}{self._files.suffix}"
        write_part(part, table_of(self._schema, keys, tokens, hashes))
        read = read_part(part)
        same = read.column("id").to_pylist() == keys and read.column("content_hash").to_pylist() == hashes
        if not same or tokens_of(read, self.spec).tobytes() != tokens.tobytes():
            part.unlink()
            raise StoreError(f"{part} is not what was written: the disk fails; run the copy again")
        self._rows[part] = len(keys)
        self._waiting.clear()


def _empty(folder: Path) -> None:
    """Deletes what lies in a folder, which stays, and is locked."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


class _ComparedParts:
    def __init__(self, rows: int) -> None:
        self._count = rows

    def differing(self, batch: Batch, tokens: NDArray[np.floating]) -> list[int]:
        return []

    def __len__(self) -> int:
        return self._count
