"""Work of a job: what its task means at this server, and the run of it. The same code as `rankport encode`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.protos.jobs import EncodeTask
from rankport.protos.types import ModelDescription
from rankport.runtime.jobs.config import EncodeJobConfig, FileColumns, encode_job_config
from rankport.runtime.jobs.encode_job import EncodeProgress, EncodeReport, namespace_of, run_encode_job
from rankport.runtime.jobs.items_file import BadRow
from rankport.runtime.jobs.row_encoder import Encoder
from rankport.runtime.jobs.sources import ItemSources
from rankport.runtime.server.roots import file_of_a_job
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.opening import open_store


@dataclass(frozen=True, slots=True)
class Places:
    """Places that jobs may read and write: folders, and the store that the server itself has open."""

    roots: Sequence[str]
    store: TokenStore | None = None

    @contextmanager
    def opened(self, location: str) -> Iterator[TokenStore]:
        """Opens a store for a job, or lends the server's own.

        Raises:
            InvalidRequest: the location is outside of the roots, or is that of a store the server only reads.
            StoreError: it cannot be opened.
        """
        own = self._own(location)
        if own is not None:
            yield own
            return
        path = file_of_a_job("store", location, self.roots, made=True)
        with open_store(path, create=True) as store:
            yield store

    def check(self, location: str) -> None:
        """Raises `InvalidRequest` as `opened`, without opening."""
        if self._own(location) is None:
            file_of_a_job("store", location, self.roots, made=True)

    def _own(self, location: str) -> TokenStore | None:
        """Returns the server's store if the location means that."""
        own = self.store
        if own is None:
            if not location:
                raise InvalidRequest("store is empty, and this server has none: give a path below a job root")
            return None
        if location and not self._same(location, own.location):
            return None
        if not own.writable:
            raise InvalidRequest(
                f"store {own.location} is the one that this server only reads: start it with --write-back, or have "
                "the job fill another one, and put that into its place"
            )
        return own

    def _same(self, location: str, own: str) -> bool:
        if location == own:
            return True
        there = Path(own).resolve()
        return any((Path(root) / location).resolve() == there for root in self.roots)


def check_task(task: EncodeTask, places: Places, encoder: ModelDescription) -> None:
    """Finds out before a job waits whether it could begin. Reads the head of its file.

    Raises:
        InvalidRequest: a place outside of the roots, a column or an option that there is not.
        NotFound: no such file.
    """
    if task.side is not None and encoder.kind != "two-tower":
        raise InvalidRequest(
            f"side is {task.side!r}, and {encoder.name!r} of kind {encoder.kind} has one side: leave it out"
        )
    if task.batch_size < 0:
        raise InvalidRequest(f"batch_size is {task.batch_size}: it must be at least 1, or 0 for the default")
    _config(task)
    places.check(task.store)
    _sources(task, places)


def run_task(
    task: EncodeTask,
    places: Places,
    encoder: Encoder,
    on_rows: Callable[[int], None],
    on_progress: Callable[[EncodeProgress], None],
    on_bad_row: Callable[[BadRow], None],
) -> EncodeReport:
    """Runs a task to its end; `on_rows` is told how many rows there are, roughly. Raises as `run_encode_job`."""
    sources = _sources(task, places)
    on_rows(sources.count() or 0)
    with places.opened(task.store) as store:
        if not encoder.fingerprint:
            raise StoreError("the encoder has no fingerprint: export it anew")
        return run_encode_job(
            encoder,
            namespace_of(store, encoder),
            sources.rows(),
            _config(task),
            on_progress=on_progress,
            on_bad_row=on_bad_row,
            owns=sources.owns,
        )


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
    path = file_of_a_job("items", task.items, places.roots)
    sources = ItemSources.open([path], FileColumns(**columns))  # type: ignore[arg-type]
    for name in sources.names:  # a folder may have links that lead elsewhere
        file_of_a_job("items", name, places.roots)
    return sources


def _config(task: EncodeTask) -> EncodeJobConfig:
    return encode_job_config(truncation=task.truncation, prune=task.prune, batch_size=task.batch_size or None)
