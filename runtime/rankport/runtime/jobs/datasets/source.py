"""`DatasetSource`: a dataset of embedding tokens as the source of a copy to a token store.

Owns which parts are read: those that `_dataset.json` names, which a job writes when all of them are whole.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa

from rankport.protos.errors import StoreError
from rankport.protos.reasons import reason_of
from rankport.runtime.jobs.datasets import DATASET_FILE
from rankport.runtime.jobs.datasets.formats import files_in, format_of_part
from rankport.runtime.jobs.datasets.parts import tokens_of, whose
from rankport.runtime.store.contract import EntryInfo
from rankport.runtime.store.copy_ends import Batch
from rankport.runtime.store.token_spec import TokenSpec

_ROWS_AT_ONCE = 4096


class DatasetSource:
    """Dataset of one encoder's tokens."""

    def __init__(self, folder: Path) -> None:
        """Reads what the dataset says of itself. Raises `StoreError` where that is no dataset."""
        path = folder / DATASET_FILE
        try:
            content = json.loads(path.read_bytes())
            if (content["format"], content["format_version"]) != ("rankport-dataset", 1):
                raise StoreError(f"{path} is of format {content['format']!r} {content['format_version']!r}")
            self.fingerprint: str = content["encoder"]
            if "vocabulary" in content["spec"]:
                raise StoreError(
                    f"{folder} has weights of a vocabulary, which no store keeps: read its parts with any tool"
                )
            self.spec = TokenSpec(**content["spec"])
            self._rows = {folder / Path(part["name"]).name: int(part["rows"]) for part in content["parts"]}
        except KeyError as error:
            raise StoreError(f"{path} does not say what is in the dataset: it has no {error}") from error
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{path} does not say what is in the dataset: {_cause(error)}") from error
        self._folder = folder

    @property
    def origin(self) -> str:
        """Folder, and the hash of its parts' names, sizes and times."""
        stats = [
            (part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in self._rows if part.is_file()
        ]
        return f"{self._folder.resolve()} with {blake2b(repr(stats).encode(), digest_size=16).hexdigest()}"

    def __len__(self) -> int:
        return sum(self._rows.values())

    def batches(self) -> Iterator[Batch]:
        """Yields rows some at a time, part by part.

        Raises:
            StoreError: a part is not there, cannot be read, or is another than the dataset says.
        """
        for part, rows in self._rows.items():
            try:
                yield from self._part(part, rows)
            except (OSError, pa.ArrowException) as error:
                raise StoreError(
                    f"{part} cannot be read: {error}: run the job that wrote it again"
                ) from error

    def _part(self, part: Path, rows: int) -> Iterator[Batch]:
        files = files_in(format_of_part(part.name))
        schema = files.schema(part)
        if whose(schema, part) != (self.fingerprint, self.spec) or files.count(part) != rows:
            raise StoreError(f"{part} is another part than the dataset says: run the job that wrote it again")
        written_at = datetime.fromtimestamp(part.stat().st_mtime_ns // 1000 / 1e6, UTC)
        for batch in files.batches(part, _ROWS_AT_ONCE):
            table = pa.Table.from_batches([batch], schema)
            hashes = table.column("content_hash").to_pylist()
            infos = [EntryInfo(content_hash, written_at) for content_hash in hashes]
            yield Batch(table.column("id").to_pylist(), infos, tokens_of(table, self.spec))


def _cause(error: Exception) -> str:
    """Tells why in a line: a fault of decoding quotes all that it read."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 at byte {error.start}"
    return reason_of(error)
