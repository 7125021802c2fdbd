"""`Tally`: what became of the windows of a job, and the dataset that they are together.

One job at a time fills a folder: at its end it deletes what is not its own. Memory: the name of each part, and as many
bad rows as the report has.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rankport.protos.errors import StoreError
from rankport.protos.reasons import reason_of
from rankport.protos.wording import be, counted
from rankport.runtime.jobs.datasets import DATASET_FILE
from rankport.runtime.jobs.datasets.folder import (
    check_format,
    check_own,
    half_written,
    locked,
    parts_to_delete,
)
from rankport.runtime.jobs.datasets.formats import files_in
from rankport.runtime.jobs.datasets.part_files import write_durably
from rankport.runtime.jobs.datasets.part_maker import Outcome, Target, file_of
from rankport.runtime.jobs.datasets.part_rows import schema_of_part
from rankport.runtime.jobs.encode_report import EncodeProgress, EncodeReport
from rankport.runtime.jobs.rows.items_file import ItemsFile
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.store.durable_files import sync_names


class Tally:
    """Counts windows as they end; `finish` makes the dataset theirs and no other's. A context, that of the job."""

    def __init__(
        self,
        target: Target,
        files: Sequence[ItemsFile],
        on_progress: Callable[[EncodeProgress], None] | None,
        on_bad_row: Callable[[BadRow], None] | None,
    ) -> None:
        """Makes the folder, and keeps others from filling it until `close`.

        Raises:
            StoreError: that cannot be, it holds what is no dataset's, or another job fills it.
            InvalidRequest: a dataset of another format stands there.
        """
        self._target, self._on_progress, self._on_bad_row = target, on_progress, on_bad_row
        self._names = [str(file.path) for file in files] if len(files) > 1 else [""]
        self._encoded: dict[str, int] = {}  # rows of each part
        self._rows = self._truncated = 0
        self._first_bad: list[tuple[int, BadRow]] = []  # with the numbers of their files, in order
        self._progress = EncodeProgress(0, 0, 0)
        self._started_s = time.perf_counter()
        try:
            Path(target.folder).mkdir(parents=True, exist_ok=True)
            self._lock = locked(Path(target.folder))
        except OSError as error:
            raise StoreError(f"dataset {target.folder} cannot be made: {reason_of(error)}") from error
        try:
            check_own(Path(target.folder))
            check_format(Path(target.folder), target.part_format)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets others fill the folder. Closing twice does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def take(self, outcome: Outcome, *, made: bool) -> None:
        """Counts a window, whose part was made now or there already."""
        self._encoded[outcome.part] = outcome.encoded
        self._rows += outcome.rows
        self._truncated += outcome.truncated
        unchanged, before = 0 if made else outcome.encoded, self._progress
        self._progress = EncodeProgress(
            before.encoded + outcome.encoded - unchanged,
            before.unchanged + unchanged,
            before.bad_rows + len(outcome.bad_rows),
        )
        self._take_bad(self._bad_rows(outcome))
        if self._on_progress is not None:
            self._on_progress(self._progress)

    def finish(self) -> EncodeReport:
        """States which parts are the dataset's, deletes others, and reports.

        Raises:
            StoreError: the disk is full, or somebody deleted parts meanwhile.
        """
        folder, files = Path(self._target.folder), files_in(self._target.part_format)
        whole = [folder / name for name in sorted(self._encoded)]
        gone = [path.name for path in whole if not files.is_whole(path)]
        if gone:
            raise StoreError(
                f"dataset {folder}: {counted(len(gone), 'part')} of this job {be(len(gone))} gone, {gone[0]} first: "
                "another job fills this folder, or deleted them; wait until it has ended, and run again"
            )
        parts = [{"name": path.name, "rows": self._encoded[path.name]} for path in whole]
        content = {
            "format": "rankport-dataset",
            "format_version": 1,
            "encoder": self._target.fingerprint,
            "spec": json.loads(self._target.spec.to_json()),
            "parts": parts,
        }
        others = [*parts_to_delete(folder, self._encoded), *half_written(folder)]
        try:
            files.join(folder, whole, schema_of_part(self._target.fingerprint, self._target.spec))
            text = json.dumps(content, indent=1) + "\n"
            sync_names(folder)
            write_durably(folder / DATASET_FILE, lambda stream: stream.write(text.encode()))
            sync_names(folder)  # before what the last dataset had goes
            for other in others:
                other.unlink(missing_ok=True)
            files.tidy(folder)
        except OSError as error:
            raise StoreError(f"dataset {folder} cannot be written: {reason_of(error)}") from error
        return self._report()

    def _take_bad(self, rows: Sequence[tuple[int, BadRow]]) -> None:
        most = self._target.config.max_bad_rows_kept
        first = [*self._first_bad, *rows[:most]]
        self._first_bad = sorted(first, key=lambda bad: (bad[0], bad[1].line))[:most]
        for _, row in rows if self._on_bad_row is not None else ():
            self._on_bad_row(row)  # type: ignore[misc]

    def _bad_rows(self, outcome: Outcome) -> list[tuple[int, BadRow]]:
        """Returns the bad rows of a window with the numbers of their files."""
        first, count = file_of(outcome.part), len(outcome.bad_rows)
        places, contents = outcome.places or [0] * count, outcome.contents or [""] * count
        return [
            (number, BadRow(line, reason, id, self._names[number], content))
            for place, (line, reason, id), content in zip(places, outcome.bad_rows, contents, strict=True)
            for number in [first + place]
        ]

    def _report(self) -> EncodeReport:
        seconds, progress = time.perf_counter() - self._started_s, self._progress
        return EncodeReport(
            rows_read=self._rows,
            encoded=progress.encoded,
            unchanged=progress.unchanged,
            truncated=self._truncated,
            bad_rows=progress.bad_rows,
            first_bad_rows=tuple(row for _, row in self._first_bad),
            pruned=0,
            prune_refused="",
            seconds=seconds,
            items_per_s=progress.encoded / seconds if progress.encoded else 0.0,
        )
