"""`LanceFiles`: parts that are fragments of one Lance dataset, which `join` shows in one step.

A part is a note, `part-….fragment.json`: the fragment as Lance writes it down, whose file lies in `data`, and the
schema. Readers of Lance see the dataset that was joined last, until another one is.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from rankport.protos.installed.extras import extras_named
from rankport.runtime.jobs.datasets.part_files import write_durably
from rankport.runtime.store.durable_files import sync_file


class LanceFiles:
    """Fragments of a Lance dataset. Needs pylance, the extra `rankport[lance]`."""

    suffix = ".fragment.json"

    def __init__(self) -> None:
        with extras_named("a dataset in Lance", "lance"):
            import lance  # noqa: F401

    def write(self, path: Path, table: pa.Table) -> None:
        """Writes the fragment's file, then the note: a file without a note is deleted by the next `tidy`."""
        from lance.fragment import LanceFragment

        fragment = None
        if len(table):  # Lance has no fragments without rows
            made = LanceFragment.create(str(path.parent), table, mode="create")
            fragment = made.to_json()
            for file in made.files:
                sync_file(path.parent / "data" / file.path)
        schema = base64.b64encode(table.schema.serialize().to_pybytes()).decode()
        note = json.dumps({"fragment": fragment, "rows": len(table), "schema": schema})
        write_durably(path, lambda stream: stream.write(note.encode()))

    def is_whole(self, path: Path) -> bool:
        try:
            return path.is_file() and all(file.is_file() for file in _data_files(path))
        except OSError:
            return False

    def schema(self, path: Path) -> pa.Schema:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(_note(path)["schema"])))

    def count(self, path: Path) -> int:
        return int(_note(path)["rows"])

    def batches(self, path: Path, rows: int) -> Iterator[pa.RecordBatch]:
        from lance.file import LanceFileReader

        schema = self.schema(path)
        for file in _data_files(path):
            if not file.is_file():
                raise FileNotFoundError(f"its file {file} is not there")
            for batch in LanceFileReader(str(file)).read_all(batch_size=rows).to_batches():
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    def join(self, folder: Path, parts: Sequence[Path], schema: pa.Schema) -> None:
        """Commits the fragments as the dataset's new version; notes of the one before still find theirs."""
        import lance
        from lance.fragment import FragmentMetadata

        notes = [note for note in map(_note, parts) if note["fragment"] is not None]
        fragments = [FragmentMetadata.from_json(json.dumps(note["fragment"])) for note in notes]
        operation = lance.LanceOperation.Overwrite(schema, fragments)
        lance.LanceDataset.commit(str(folder), operation)

    def tidy(self, folder: Path) -> None:
        """Deletes older versions, and the files that the newest one has not."""
        import lance

        lance.dataset(str(folder)).cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)


def _note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_bytes())
        return {name: note[name] for name in ("fragment", "rows", "schema")}
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"no note of a fragment: {error!r}") from error


def _data_files(path: Path) -> list[Path]:
    fragment = _note(path)["fragment"]
    names = [] if fragment is None else [Path(file["path"]).name for file in fragment["files"]]
    return [path.parent / "data" / name for name in names]
