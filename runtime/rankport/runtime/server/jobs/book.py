"""`JobBook`: the jobs of a server in a file of SQLite. Owns what is written and when; any thread may call it.

    jobs(number INTEGER PRIMARY KEY, id TEXT UNIQUE, state TEXT, job TEXT)    `job`: JSON of a `Job`
    cancelled(id TEXT PRIMARY KEY)    of jobs that run and are to end

The file belongs to one server at a time. A change is on disk when its call returns.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rankport.protos.errors import InvalidRequest, NotFound, Overloaded, Unavailable
from rankport.protos.jobs import Job, JobState
from rankport.protos.reasons import reason_of

FORMAT_VERSION = 1
_APPLICATION = 0x724A6F62  # "rJob", by which SQLite files tell whose they are
_MAX_QUEUED, _ENDED_KEPT = 1000, 1000
_JOBS = TypeAdapter(Job)


class JobBook:
    """Jobs by id, in the order of their creation."""

    def __init__(self, path: str) -> None:
        """Opens the file, or makes it.

        Raises `InvalidRequest` for a file that is none of jobs, of a newer release, in use, or not to be written.
        """
        self._path = Path(path)
        self._lock = threading.Lock()
        self._revisions = 0
        self._closed = False
        _try_to_write(self._path)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.0)
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            reason = "another server has it open" if "locked" in str(error) else str(error)
            raise _unusable(self._path, reason) from None
        except BaseException:
            self._db.close()
            raise

    def add(self, job: Job) -> Job:
        """Adds a job, unless one with its id and its task is there, which is returned.

        Raises:
            InvalidRequest: the id is that of a job with another task.
            Overloaded: too many wait.
        """
        with self._changing() as db:
            there = db.execute("SELECT job FROM jobs WHERE id = ?", (job.id,)).fetchone()
            if there is not None:
                known = self._read(there[0])
                if known.task != job.task:
                    raise InvalidRequest(
                        f"id {job.id!r} is that of a job with another task: give another one"
                    )
                return known
            self._check_room()
            self._insert(job)
            db.execute(
                "DELETE FROM jobs WHERE state NOT IN ('queued', 'running') AND number <= "
                "(SELECT max(number) FROM jobs) - ?",
                (_ENDED_KEPT,),
            )
        return job

    def change(self, job: Job) -> Job:
        """Writes a job over that with its id."""
        with self._changing() as db:
            db.execute("UPDATE jobs SET state = ?, job = ? WHERE id = ?", (job.state, _to_json(job), job.id))
            if job.state not in (JobState.QUEUED, JobState.RUNNING):
                db.execute("DELETE FROM cancelled WHERE id = ?", (job.id,))
        return job

    def retry(self, id: str) -> Job:
        """Puts a job that failed or was cancelled behind all others; one that waits or runs stays where it is.

        Raises:
            NotFound: there is none, or it ended too long ago.
            InvalidRequest: it is done.
            Overloaded: too many wait.
        """
        with self._changing() as db:
            found = db.execute("SELECT job FROM jobs WHERE id = ?", (id,)).fetchone()
            if found is None:
                raise _no_job(id)
            job = self._read(found[0])
            if not job.state.ended:
                return job
            if job.state is JobState.DONE:
                raise InvalidRequest(f"job {id!r} is done: create one with another id to run its task again")
            self._check_room()
            again = Job(job.id, job.task, created_s=job.created_s, runs=job.runs)
            db.execute("DELETE FROM jobs WHERE id = ?", (id,))
            self._insert(again)
        return again

    def cancel(self, id: str) -> None:
        """Notes that a job which runs is to end, for a start after a kill too."""
        with self._changing() as db:
            db.execute("INSERT OR IGNORE INTO cancelled (id) VALUES (?)", (id,))

    def cancelled(self) -> set[str]:
        """Returns the ids of jobs that run and are to end."""
        with self._lock:
            self._check_open()
            return {id for (id,) in self._db.execute("SELECT id FROM cancelled")}

    def get(self, id: str) -> Job:
        """Returns a job. Raises `NotFound` where there is none, or it ended too long ago."""
        found = self._rows("SELECT job FROM jobs WHERE id = ?", id)
        if not found:
            raise _no_job(id)
        return found[0]

    def all(self) -> list[Job]:
        """Returns all jobs, the newest first."""
        return self._rows("SELECT job FROM jobs ORDER BY number DESC")

    def next(self) -> Job | None:
        """Returns the job that is to run: one that a restart broke off before those that wait, each in its order."""
        found = self._rows(
            "SELECT job FROM jobs WHERE state IN ('running', 'queued') ORDER BY state = 'queued', number LIMIT 1"
        )
        return found[0] if found else None

    @property
    def revision(self) -> int:
        """A number that is another after every change."""
        return self._revisions

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._closed = True
            self._db.close()

    def _prepare(self) -> None:
        # Exclusive: a second server with the same file would run the same jobs.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("BEGIN EXCLUSIVE")
        if not _has_jobs(self._db, self._path):
            self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            self._db.execute(
                "CREATE TABLE jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, "
                "state TEXT NOT NULL, job TEXT NOT NULL)"
            )
        self._db.execute("CREATE TABLE IF NOT EXISTS cancelled (id TEXT PRIMARY KEY)")
        self._db.execute("COMMIT")

    def _rows(self, query: str, *values: str) -> list[Job]:
        with self._lock:
            self._check_open()
            rows = self._db.execute(query, values).fetchall()
        return [self._read(row[0]) for row in rows]

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the server stops: its jobs go on when it starts again")

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._check_open()
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise Unavailable(f"jobs_file {self._path} cannot be written: {error}") from error
                raise
            self._revisions += 1

    def _check_room(self) -> None:
        """Raises `Overloaded` if too many jobs wait."""
        (queued,) = self._db.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()
        if queued >= _MAX_QUEUED:
            raise Overloaded(f"{queued} jobs wait, and no more may: ask again when some have ended")

    def _insert(self, job: Job) -> None:
        values = (job.id, job.state, _to_json(job))
        self._db.execute("INSERT INTO jobs (id, state, job) VALUES (?, ?, ?)", values)

    def _read(self, value: str) -> Job:
        try:
            return _JOBS.validate_json(value)
        except ValidationError as error:
            raise Unavailable(
                f"jobs_file {self._path} is damaged: {error.errors()[0]['msg']} in {value[:100]!r}"
            ) from None


def check_jobs_file(path: Path) -> None:
    """Raises `InvalidRequest` as `JobBook`, for a file that is there; one in use is fine, and nothing is written."""
    if not path.exists():
        return
    _try_to_write(path)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.0)) as db:
            _has_jobs(db, path)
    except sqlite3.Error as error:
        if "locked" not in str(error):
            raise _unusable(path, str(error)) from None


def _has_jobs(db: sqlite3.Connection, path: Path) -> bool:
    """Says whether a database has the tables of jobs; False if it has none at all. Raises for others."""
    application, version = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    tables = bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if tables and application != _APPLICATION:
        raise _unusable(path, "it is a database of something else")
    if tables and version != FORMAT_VERSION:
        raise _unusable(path, f"it has format {version}, and this release reads {FORMAT_VERSION}")
    return tables


def _try_to_write(path: Path) -> None:
    try:
        path.open("ab").close()  # SQLite tells no reason of the system
    except OSError as error:
        raise _unusable(path, reason_of(error)) from error


def _no_job(id: str) -> NotFound:
    return NotFound(f"there is no job {id!r}: see `rankport jobs list`")


def _unusable(path: Path, reason: str) -> InvalidRequest:
    return InvalidRequest(f"jobs_file {path} cannot be used: {reason}")


def _to_json(job: Job) -> str:
    values: dict[str, Any] = asdict(job)
    return json.dumps(values, sort_keys=True, separators=(",", ":"))
