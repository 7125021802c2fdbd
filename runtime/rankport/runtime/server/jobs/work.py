"""Work of a job: what its task means at this server, and the run of it. The same code as `rankport encode`."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.protos.jobs import EncodeTask
from rankport.protos.types import ModelDescription
from rankport.runtime.jobs.config import EncodeJobConfig, FileColumns, encode_job_config
from rankport.runtime.jobs.encode_job import namespace_of, run_encode_job
from rankport.runtime.jobs.encode_report import EncodeProgress, EncodeReport
from rankport.runtime.jobs.row_encoder import Encoder
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.jobs.rows.sources import ItemSources
from rankport.runtime.jobs.stages import read_ahead
from rankport.runtime.jobs.storable import require_side
from rankport.runtime.server.jobs.roots import JobRoots
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.opening import open_store


@dataclass(frozen=True, slots=True)
class Places:
    """Places that jobs may read and write: those below roots, and the store that the server itself has open."""

    roots: JobRoots
    store: TokenStore | None = None

    @contextmanager
    def opened(self, location: str) -> Iterator[TokenStore]:
        """Opens a store for a job, or lends the server's own.

        Raises:
            InvalidRequest: the location is outside of the roots, or is the server's store, which it reads and which
                nobody else in its process can write to.
            StoreError: it cannot be opened.
        """
        own = self._own(location)
        if own is None:
            with open_store(self.roots.store(location), create=True) as store:
                yield store
        elif own.writable:
            yield own
        else:
            with own.beside() as store:
                yield store

    def check(self, location: str) -> None:
        """Raises as `opened`, without making a store."""
        own = self._own(location)
        if own is None:
            self.roots.store(location)
        elif not own.writable:
            own.beside().close()

    def _own(self, location: str) -> TokenStore | None:
        """Returns the server's store if the location means that."""
        own = self.store
        if own is None:
            if not location:
                raise InvalidRequest("store is empty, and this server has none: give a path below a job root")
            return None
        return own if not location or self._same(location, own.location) else None

    def _same(self, location: str, own: str) -> bool:
        if location == own:
            return True
        there = os.path.realpath(own)
        return "\0" not in location and any(
            os.path.realpath(Path(root) / location) == there for root in self.roots.roots
        )


def check_task(task: EncodeTask, places: Places, encoder: ModelDescription) -> None:
    """Finds out before a job waits whether it could begin. Reads the heads of its files but those behind URLs.

    Raises:
        InvalidRequest: a place outside of the roots, a column or an option that there is not.
        NotFound: no such file.
    """
    require_side(encoder, task.side)
    if task.batch_size < 0:
        raise InvalidRequest(f"batch_size is {task.batch_size}: it must be at least 1, or 0 for the default")
    _config(task)
    places.check(task.store)
    _sources(task, places).check(remote=False)


def run_task(
    task: EncodeTask,
    places: Places,
    encoder: Encoder,
    on_rows: Callable[[int], None],
    on_progress: Callable[[EncodeProgress], None],
    on_bad_row: Callable[[BadRow], None],
) -> EncodeReport:
    """Runs a task to its end; `on_rows` is told how many rows there are, roughly. Raises as `run_encode_job`."""
    with _sources(task, places) as sources:
        on_rows(_checked(sources, lambda: on_progress(EncodeProgress(0, 0, 0))))
        with places.opened(task.store) as store:
            if not encoder.fingerprint:
                raise StoreError("the encoder has no fingerprint: export it anew")
            rows = sources.rows()
            return run_encode_job(
                encoder,
                namespace_of(store, encoder),
                rows,
                _config(task),
                on_progress=on_progress,
                on_bad_row=on_bad_row,
                owns=sources.owns,
                strays=lambda: rows.strays,
            )


def _checked(sources: ItemSources, waiting: Callable[[], None]) -> int:
    """Checks the files, those behind URLs too, and counts their rows; calls `waiting` while that takes its time."""

    def looks() -> Iterator[int]:
        sources.check()
        yield sources.count() or 0

    [rows] = read_ahead(looks(), 1, waiting)
    return rows


def _sources(task: EncodeTask, places: Places) -> ItemSources:
    given = {
        "id_column": task.id_column,
        "text_columns": task.text_columns,
        "file_format": task.file_format,
        "template": task.template,
        "deleted_column": task.deleted_column,
        "shard": task.shard,
    }
    columns = {name: value for name, value in given.items() if value}
    if task.separator is not None:
        columns["separator"] = task.separator
    return ItemSources.find(
        [places.roots.items(task.items)],
        FileColumns(**columns),  # type: ignore[arg-type]
        allowed=places.roots.check_items,  # a folder may have links, and a listing names, that lead elsewhere
    )


def _config(task: EncodeTask) -> EncodeJobConfig:
    return encode_job_config(
        truncation=task.truncation,
        prune=task.prune,
        max_prune_share=task.max_prune_share,
        batch_size=task.batch_size or None,
    )
