"""`JobRunner`: runs the jobs of a server one after the other, in a thread of its own.

Owns when a job begins, what is written of its progress, and how it ends. A job that a stop or a kill broke off is
running in the book, and is begun anew first of all: what it has stored is unchanged then.
"""

import asyncio
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from rankport.protos.errors import InvalidRequest, RankportError
from rankport.protos.jobs import EncodeTask, Job, JobBadRow, JobCounts, JobState
from rankport.protos.types import ModelDescription
from rankport.runtime.jobs.encode_report import EncodeProgress, EncodeReport
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.server.failures import told
from rankport.runtime.server.jobs.book import JobBook
from rankport.runtime.server.jobs.served_encoder import ServedEncoder
from rankport.runtime.server.jobs.work import Places, check_task, run_task
from rankport.runtime.server.models.models import ServedModels
from rankport.runtime.server.submitter import Submitter

_log = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_WRITE_S = 0.5  # from one note of progress to the next
_BAD_ROWS_KEPT = 20


class _BrokenOffError(Exception):
    """Signal out of a job's callbacks: it was cancelled, or the server stops."""


class JobRunner:
    """Jobs of a server. Any thread may call it."""

    def __init__(
        self,
        book: JobBook,
        places: Places,
        models: ServedModels,
        submitter: Submitter,
        retry_s: float = _WRITE_S,
    ) -> None:
        """`retry_s`: until it tries again where the book cannot be written."""
        self._retry_s, self._closed = retry_s, False
        self._book, self._places, self._models, self._submitter = book, places, models, submitter
        self._changed = threading.Event()  # something may be there to run
        self._stopping = threading.Event()
        self._turn = threading.Lock()  # guards which jobs run, and which of these are to end
        self._cancelled = book.cancelled()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="rankport-jobs", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to run jobs, with the models of the server's loop."""
        self._loop = loop
        self._thread.start()

    async def create(self, id: str, task: EncodeTask) -> Job:
        """Adds a job, or gives the one that is there with this id and task. On the server's loop.

        Raises:
            InvalidRequest: the task cannot be begun here, or the id is taken or none.
            NotFound: no such encoder, or file.
            Overloaded: too many wait.
        """
        if id and not _ID.fullmatch(id):
            raise InvalidRequest(f"id {id!r:.140}: use 1 to 128 of A-Z a-z 0-9 . _ -")
        encoder = self._models.encoder(task.model).description
        await asyncio.to_thread(check_task, task, self._places, encoder)
        job = Job(id or secrets.token_hex(8), task, created_s=time.time())
        added = await asyncio.to_thread(self._book.add, job)
        _log.info("job %s is asked for", added.id)
        self._changed.set()
        return added

    def get(self, id: str) -> Job:
        """Returns a job. Raises `NotFound`."""
        return self._book.get(id)

    def all(self) -> list[Job]:
        """Returns all jobs, the newest first."""
        return self._book.all()

    @property
    def revision(self) -> int:
        """A number that is another after every change of any job."""
        return self._book.revision

    def cancel(self, id: str) -> Job:
        """Ends a job: one that waits at once, one that runs behind its batch. Raises `NotFound`."""
        with self._turn:
            job = self._book.get(id)
            _log.info("job %s is to end", id)
            if job.state is JobState.RUNNING:
                self._book.cancel(id)
                self._cancelled.add(id)
            elif job.state is JobState.QUEUED:
                job = self._book.change(replace(job, state=JobState.CANCELLED, ended_s=time.time()))
        return job

    def retry(self, id: str) -> Job:
        """Has a job that failed or was cancelled wait again.

        Raises as `JobBook.retry`, and `InvalidRequest` for one that runs and is to end.
        """
        with self._turn:
            if id in self._cancelled:
                raise InvalidRequest(f"job {id!r} is to end, and runs: ask again once it is cancelled")
            job = self._book.retry(id)
            _log.info("job %s is asked for again", id)
        self._changed.set()
        return job

    def close(self, within_s: float | None = None) -> None:
        """Breaks off what runs behind its batch, to go on after the next start, and closes the book. Blocks, once.

        A job that is no further after `within_s`, as files behind a URL that nobody sends, is left where it is.
        """
        if self._closed:
            return
        self._closed = True
        self._stopping.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(None if within_s is None else min(within_s, threading.TIMEOUT_MAX))
            if self._thread.is_alive():
                _log.error("a job did not end within %.0f s, and goes on after the next start", within_s)
        self._book.close()

    def _run(self) -> None:
        fault = ""  # that keeps jobs from going on, once told: a disk that is full may stay so
        while not self._stopping.is_set():
            try:
                if (job := self._next()) is not None:
                    self._work_on(job)
                    fault = ""
                    continue
            except Exception as error:
                if str(error) != fault:
                    bug = None if isinstance(error, RankportError) else error
                    _log.error("jobs cannot go on, and are tried again: %s", error, exc_info=bug)
                fault = str(error)
                self._stopping.wait(self._retry_s)
                continue
            self._changed.wait()
            self._changed.clear()  # before it looks for a stop and for jobs: what is set meanwhile is seen

    def _next(self) -> Job | None:
        with self._turn:
            job = self._book.next()
            if job is None:
                return None
            begun = replace(
                job, started_s=time.time(), runs=job.runs + 1, counts=JobCounts(), first_bad_rows=()
            )
            return self._book.change(replace(begun, state=JobState.RUNNING))

    def _work_on(self, job: Job) -> None:
        if job.id in self._cancelled:  # before a kill
            self._end(job, JobState.CANCELLED)
            return
        run = _Run(self._book, job, lambda: self._stopping.is_set() or job.id in self._cancelled)
        try:
            encoder = self._encoder(run)
            report = run_task(job.task, self._places, encoder, run.rows, run.progress, run.bad_row)
        except _BrokenOffError:
            if job.id in self._cancelled:
                self._end(run.job, JobState.CANCELLED)
        except Exception as error:
            if self._stopping.is_set():
                # The error may be of the stop: the next start will show, unless nobody wants the job.
                if job.id in self._cancelled:
                    self._end(run.job, JobState.CANCELLED)
                return
            if not isinstance(error, RankportError | OSError):
                _log.exception("job %s failed", job.id)
            self._end(run.job, JobState.FAILED, str(told(error)))
        else:
            done = replace(run.job, counts=_counts(report))
            if failure := report.failure:
                self._end(done, JobState.FAILED, failure)
            else:
                self._end(done, JobState.DONE)

    def _encoder(self, run: "_Run") -> ServedEncoder:
        assert self._loop is not None, "it has started"
        task, loop = run.job.task, self._loop
        found = asyncio.run_coroutine_threadsafe(self._found(task.model), loop).result()
        encoder = ServedEncoder(
            self._models, self._submitter, loop, self._stopping, found, task.side, run.check_wanted
        )
        if run.job.fingerprint not in ("", encoder.fingerprint):
            raise InvalidRequest(
                f"it was begun with encoder {run.job.fingerprint}, and {found.name!r} is {encoder.fingerprint} now: "
                "create a job for that"
            )
        run.begin(encoder.fingerprint)
        return encoder

    async def _found(self, model: str) -> ModelDescription:
        return self._models.encoder(model).description

    def _end(self, job: Job, state: JobState, reason: str = "") -> None:
        with self._turn:
            self._book.change(replace(job, state=state, reason=reason, ended_s=time.time()))
            self._cancelled.discard(job.id)
        level = logging.ERROR if state == JobState.FAILED else logging.INFO
        _log.log(level, "job %s is %s%s", job.id, state, f": {reason}" if reason else "")


class _Run:
    """One run of a job: notes its progress in the book now and then, and breaks it off when it is asked to."""

    def __init__(self, book: JobBook, job: Job, broken_off: Callable[[], bool]) -> None:
        self.job = job
        self._book, self._broken_off = book, broken_off
        self._bad_rows: list[JobBadRow] = []
        self._written, self._written_s = job, time.monotonic()

    def begin(self, fingerprint: str) -> None:
        """Notes that it runs, and with which encoder."""
        self.job = self._book.change(replace(self.job, fingerprint=fingerprint))

    def rows(self, total: int) -> None:
        """Notes how many rows there are."""
        self.job = self._book.change(replace(self.job, total_rows=total))

    def progress(self, done: EncodeProgress) -> None:
        """Notes what is done. Raises `_BrokenOffError` where nobody wants it any more."""
        counts = JobCounts(done.rows, done.encoded, done.unchanged, done.bad_rows, deleted=done.deleted)
        self.job = replace(self.job, counts=counts, first_bad_rows=tuple(self._bad_rows))
        self.check_wanted()
        if self.job != self._written and time.monotonic() - self._written_s >= _WRITE_S:
            self._written, self._written_s = self.job, time.monotonic()
            self._book.change(self.job)

    def check_wanted(self) -> None:
        """Raises `_BrokenOffError` where nobody wants it any more."""
        if self._broken_off():
            raise _BrokenOffError

    def bad_row(self, row: BadRow) -> None:
        """Keeps the first ones."""
        if len(self._bad_rows) < _BAD_ROWS_KEPT:
            self._bad_rows.append(JobBadRow(row.line, row.reason, row.id, row.file))
            self.job = replace(self.job, first_bad_rows=tuple(self._bad_rows))


def _counts(report: EncodeReport) -> JobCounts:
    return JobCounts(
        rows=report.rows_read,
        encoded=report.encoded,
        unchanged=report.unchanged,
        bad_rows=report.bad_rows,
        truncated=report.truncated,
        pruned=report.pruned,
        deleted=report.deleted,
    )
