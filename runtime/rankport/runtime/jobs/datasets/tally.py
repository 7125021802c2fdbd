"""`Tally`: what became of the windows of a job, and the dataset that they are together."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rankport.protos.errors import StoreError
from rankport.protos.reasons import reason_of
from rankport.runtime.jobs.datasets import DATASET_FILE
from rankport.runtime.jobs.datasets.folder import check_format, check_own, parts_to_delete
from rankport.runtime.jobs.datasets.formats import files_in
from rankport.runtime.jobs.datasets.parts import schema_of
from rankport.runtime.jobs.datasets.windows import Outcome, Target, file_of
from rankport.runtime.jobs.encode_job import EncodeProgress, EncodeReport
from rankport.runtime.jobs.items_file import BadRow, ItemsFile


class Tally:
    """Counts windows as they end; `finish` makes the dataset theirs and no other's."""

    def __init__(
        self,
        target: Target,
        files: Sequence[ItemsFile],
        on_progress: Callable[[EncodeProgress], None] | None,
        on_bad_row: Callable[[BadRow], None] | None,
    ) -> None:
        """Makes the folder.

        Raises:
            StoreError: that cannot be, or it holds what is no dataset's.
            InvalidRequest: a dataset of another format stands there.
        """
        self._target, self._on_progress, self._on_bad_row = target, on_progress, on_bad_row
        self._names = [str(file.path) for file in files] if len(files) > 1 else [""]
        self._outcomes: dict[str, Outcome] = {}
        self._progress = EncodeProgress(0, 0, 0)
        self._started_s = time.perf_counter()
        try:
            Path(target.folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"dataset {target.folder} cannot be made: {reason_of(error)}") from error
        check_own(Path(target.folder))
        check_format(Path(target.folder), target.part_format)

    def take(self, outcome: Outcome, *, made: bool) -> None:
        """Counts a window, whose part was made now or there already."""
        self._outcomes[outcome.part] = replace(outcome, contents=[])
        unchanged, before = 0 if made else outcome.encoded, self._progress
        self._progress = EncodeProgress(
            before.encoded + outcome.encoded - unchanged,
            before.unchanged + unchanged,
            before.bad_rows + len(outcome.bad_rows),
        )
        for bad in self._bad_rows(outcome) if self._on_bad_row is not None else ():
            self._on_bad_row(bad)  # type: ignore[misc]
        if self._on_progress is not None:
            self._on_progress(self._progress)

    def finish(self) -> EncodeReport:
        """States which parts are the dataset's, deletes others, and reports. Raises `StoreError` for a full disk."""
        folder = Path(self._target.folder)
        parts = [{"name": name, "rows": self._outcomes[name].encoded} for name in sorted(self._outcomes)]
        content = {
            "format": "rankport-dataset",
            "format_version": 1,
            "encoder": self._target.fingerprint,
            "spec": json.loads(self._target.spec.to_json()),
            "parts": parts,
        }
        beside = folder / f".{DATASET_FILE}.{os.getpid()}.writing"
        others = parts_to_delete(folder, self._outcomes)
        try:
            schema = schema_of(self._target.fingerprint, self._target.spec)
            whole = [folder / name for name in sorted(self._outcomes)]
            files_in(self._target.part_format).join(folder, whole, schema)
            beside.write_text(json.dumps(content, indent=1) + "\n")
            beside.replace(folder / DATASET_FILE)
            for part in others:
                part.unlink()
        except OSError as error:
            raise StoreError(f"dataset {folder} cannot be written: {reason_of(error)}") from error
        return self._report()

    def _bad_rows(self, outcome: Outcome) -> list[BadRow]:
        name = self._names[file_of(outcome.part)]
        contents = outcome.contents or [""] * len(outcome.bad_rows)
        told = zip(outcome.bad_rows, contents, strict=True)
        return [BadRow(line, reason, id, name, content) for (line, reason, id), content in told]

    def _report(self) -> EncodeReport:
        ordered = [self._outcomes[name] for name in sorted(self._outcomes)]
        bad = [row for outcome in ordered for row in self._bad_rows(outcome)]
        seconds, progress = time.perf_counter() - self._started_s, self._progress
        return EncodeReport(
            rows_read=sum(outcome.rows for outcome in ordered),
            encoded=progress.encoded,
            unchanged=progress.unchanged,
            truncated=sum(outcome.truncated for outcome in ordered),
            bad_rows=len(bad),
            first_bad_rows=tuple(bad[: self._target.config.max_bad_rows_kept]),
            pruned=0,
            prune_refused="",
            seconds=seconds,
            items_per_s=progress.encoded / seconds if progress.encoded else 0.0,
        )
