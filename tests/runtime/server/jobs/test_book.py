"""`JobBook`: jobs in a file."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest, NotFound, Unavailable
from rankport.protos.jobs import EncodeTask, Job, JobBadRow, JobCounts, JobState
from rankport.runtime.server.jobs.book import JobBook

TASK = EncodeTask(items="a.csv", store="s", text_columns=("title", "text"), separator="", side="query")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "jobs.sqlite")


def test_a_job_comes_back_whole_from_the_file(path: str) -> None:
    counts = JobCounts(10, 7, 1, 2, 3, 4)
    bad = (JobBadRow(3, "no id in id", None), JobBadRow(4, "no text in text", "x"))
    job = Job("a", TASK, JobState.FAILED, "disk full", "f" * 64, counts, 12, bad, 1.5, 2.5, 3.5, 2)
    book = JobBook(path)
    book.add(job)
    book.close()
    again = JobBook(path)
    assert again.get("a") == job
    assert again.all() == [job]
    again.close()


def test_an_id_is_one_job(path: str) -> None:
    book = JobBook(path)
    first = book.add(Job("a", TASK, created_s=1.0))
    assert book.add(Job("a", TASK, created_s=2.0)) == first
    with pytest.raises(InvalidRequest, match="id 'a' is that of a job with another task"):
        book.add(Job("a", replace(TASK, store="t")))
    with pytest.raises(NotFound, match="there is no job 'b'"):
        book.get("b")
    book.close()


def test_a_job_that_failed_waits_again_behind_all_others_as_if_it_had_never_run(path: str) -> None:
    book = JobBook(path)
    for id in ("a", "b", "c", "d"):
        book.add(Job(id, TASK, created_s=1.0))
    counts, bad = JobCounts(10, 7), (JobBadRow(3, "no id in id", None),)
    book.change(Job("a", TASK, JobState.FAILED, "disk full", "f" * 64, counts, 12, bad, 1.0, 2.5, 3.5, 2))
    book.change(Job("c", TASK, JobState.DONE))
    book.change(Job("d", TASK, JobState.CANCELLED, created_s=1.0, runs=1))
    again = Job("a", TASK, created_s=1.0, runs=2)
    assert book.retry("a") == book.retry("a") == book.get("a") == again  # a call that comes twice
    assert book.retry("d").state is JobState.QUEUED
    with pytest.raises(InvalidRequest, match="job 'c' is done: create one with another id"):
        book.retry("c")
    with pytest.raises(NotFound, match="there is no job 'x'"):
        book.retry("x")
    book.add(Job("e", TASK))
    assert [job.id for job in book.all()] == ["e", "d", "a", "c", "b"]
    assert (job := book.next()) is not None
    assert job.id == "b"
    book.close()


def test_what_a_restart_broke_off_comes_before_what_waits(path: str) -> None:
    book = JobBook(path)
    for id in ("a", "b", "c"):
        book.add(Job(id, TASK))
    book.change(Job("a", TASK, JobState.DONE))
    book.change(Job("c", TASK, JobState.RUNNING))
    order = []
    while (job := book.next()) is not None:
        order.append(job.id)
        book.change(replace(job, state=JobState.DONE))
    assert order == ["c", "b"]
    assert [job.id for job in book.all()] == ["c", "b", "a"]
    book.close()


def test_a_file_belongs_to_one_server(path: str) -> None:
    book = JobBook(path)
    with pytest.raises(InvalidRequest, match="cannot be used: another server has it open"):
        JobBook(path)
    book.close()
    JobBook(path).close()


def test_a_closed_book_says_that_the_server_stops(path: str) -> None:
    book = JobBook(path)
    book.close()
    with pytest.raises(Unavailable, match="go on when it starts again"):
        book.all()
    with pytest.raises(Unavailable, match="go on when it starts again"):
        book.add(Job("a", TASK))


def test_files_of_something_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, and long enough to be none" * 10)
    with pytest.raises(InvalidRequest, match="file is not a database"):
        JobBook(str(tmp_path / "text"))
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as db, db:
        db.execute("CREATE TABLE t (x)")
    with pytest.raises(InvalidRequest, match="it is a database of something else"):
        JobBook(str(other))
    with pytest.raises(InvalidRequest, match="No such file or directory"):
        JobBook(str(tmp_path / "none" / "jobs.sqlite"))


def test_a_file_of_a_newer_release_is_refused(path: str) -> None:
    JobBook(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(InvalidRequest, match="it has format 2, and this release reads 1"):
        JobBook(path)
