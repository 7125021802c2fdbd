"""The thread that runs jobs, where it meets a stop."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import fsspec
import pytest

from rankport.protos.errors import Unavailable
from rankport.protos.jobs import Job, JobState
from rankport.runtime.server.jobs.book import JobBook
from rankport.runtime.server.jobs.roots import JobRoots
from rankport.runtime.server.jobs.runner import JobRunner
from rankport.runtime.server.jobs.work import Places
from rankport.runtime.server.models.models import ServedModels
from rankport.runtime.server.submitter import Submitter
from rankport.sdk import Client
from support.effort import full_effort
from support.servers.deterministic_models import DeterministicEncoder
from support.servers.jobs_server import jobs_config, task, write_items
from support.servers.serving import serving
from support.servers.supervised import eventually


def test_a_stop_that_comes_while_the_thread_looks_for_one_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, submitter = DeterministicEncoder(), Submitter(1)
    made: list[threading.Event] = []
    runners: list[JobRunner] = []
    closed = threading.Event()

    def close() -> None:
        runners[0].close()
        closed.set()

    stop = threading.Thread(target=close, daemon=True)

    class Event(threading.Event):
        """Event that says "not set", and before the thread goes on the runner is closed."""

        def __init__(self) -> None:
            super().__init__()
            made.append(self)

        def is_set(self) -> bool:
            before = super().is_set()
            if threading.current_thread().name == "rankport-jobs" and stop.ident is None:
                stop.start()
                for event in made[:2]:  # those of the runner: that something is to be run, and that it stops
                    assert event.wait(20.0)
            return before

    with monkeypatch.context() as patched:
        patched.setattr(threading, "Event", Event)
        book = JobBook(str(tmp_path / "jobs"))
        models = ServedModels({"encoder": cast(Any, encoder)})
        runners.append(JobRunner(book, Places(JobRoots([str(tmp_path)]), None), models, submitter))
    with closing(asyncio.new_event_loop()) as loop:
        runners[0].start(loop)
        assert closed.wait(5.0)
    submitter.close()
    encoder.close()


def test_a_stop_frees_the_port_within_its_grace_while_a_job_is_in_a_batch(tmp_path: Path) -> None:
    write_items(tmp_path, 1)
    with serving(jobs_config(tmp_path)) as running, ThreadPoolExecutor(1) as stopping:
        running.encoder.worker.gate.clear()
        with Client(running.address, timeout_s=20.0) as client:
            client.jobs.create(task())
        assert running.encoder.worker.arrived.acquire(timeout=20.0)
        stopped = stopping.submit(running.server.stop, 0.0)
        try:
            eventually(lambda: not _listens(running.server.port), 10.0)
            assert not stopped.done()
        finally:
            running.encoder.worker.gate.set()
        stopped.result(20.0)


def test_a_cancelled_job_whose_batch_fails_as_the_server_stops_is_not_begun_again(tmp_path: Path) -> None:
    write_items(tmp_path, 1)
    with serving(jobs_config(tmp_path)) as running, ThreadPoolExecutor(1) as stopping:
        running.encoder.worker.gate.clear()
        with Client(running.address, timeout_s=20.0) as client:
            client.jobs.create(task(), "unwanted")
            assert running.encoder.worker.arrived.acquire(timeout=20.0)
            client.jobs.cancel("unwanted")
        running.encoder.fail_with = Unavailable("the model is closed")
        stopped = stopping.submit(running.server.stop, 0.0)
        eventually(lambda: not _listens(running.server.port), 10.0)
        running.encoder.worker.gate.set()
        stopped.result(20.0)
    with serving(jobs_config(tmp_path)) as again, Client(again.address, timeout_s=20.0) as client:
        assert list(client.jobs.watch("unwanted"))[-1].state is JobState.CANCELLED


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple[JobBook, JobRunner]]:
    """Job "waits" of a server whose loop does not run, so that the job gets no encoder."""
    encoder, submitter = DeterministicEncoder(), Submitter(1)
    book = JobBook(str(tmp_path / "jobs"))
    book.add(Job("waits", task()))
    models = ServedModels({"encoder": cast(Any, encoder)})
    runner = JobRunner(book, Places(JobRoots([str(tmp_path)]), None), models, submitter, retry_s=0.01)
    with closing(asyncio.new_event_loop()) as loop:
        runner.start(loop)
        yield book, runner
        runner.close(0.0)
        while any(thread.name == "rankport-jobs" for thread in threading.enumerate()):
            loop.run_until_complete(asyncio.sleep(0.01))
    submitter.close()
    encoder.close()


def test_a_job_that_gets_no_further_keeps_no_stop(
    waiting: tuple[JobBook, JobRunner], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    book, runner = waiting
    eventually(lambda: book.get("waits").state is JobState.RUNNING)
    runner.close(0.01)
    assert caplog.text.count("a job did not end within 0 s, and goes on after the next start") == 1
    with closing(JobBook(str(tmp_path / "jobs"))) as again:
        assert again.get("waits").state is JobState.RUNNING


def test_a_disk_that_is_full_is_told_once_and_jobs_go_on_when_it_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    tries, full = threading.Semaphore(0), threading.Event()
    full.set()
    change = JobBook.change

    def change_or_fail(book: JobBook, job: Job) -> Job:
        if full.is_set():
            tries.release()
            raise Unavailable("jobs_file cannot be written: database or disk is full")
        return change(book, job)

    monkeypatch.setattr(JobBook, "change", change_or_fail)
    book, _ = request.getfixturevalue("waiting")
    for _ in range(3):
        assert tries.acquire(timeout=20.0)
    full.clear()
    eventually(lambda: book.get("waits").state is JobState.RUNNING)
    assert caplog.text.count("jobs cannot go on, and are tried again: jobs_file cannot be written") == 1
    assert "Traceback" not in caplog.text


def test_a_cancelled_job_is_not_begun_again_after_a_kill(tmp_path: Path) -> None:
    write_items(tmp_path, 1)
    with closing(JobBook(str(tmp_path / "jobs.sqlite"))) as book:
        for id in ("unwanted", "wanted"):
            book.add(Job(id, task()))
            book.change(Job(id, task(), JobState.RUNNING))
        book.cancel("unwanted")
    with serving(jobs_config(tmp_path)) as running, Client(running.address, timeout_s=20.0) as client:
        assert list(client.jobs.watch("unwanted"))[-1].state is JobState.CANCELLED
        assert list(client.jobs.watch("wanted"))[-1].state is JobState.DONE
    with closing(JobBook(str(tmp_path / "jobs.sqlite"))) as book:
        assert book.cancelled() == set()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_job_whose_encoder_is_overloaded_is_cancelled(tmp_path: Path) -> None:
    write_items(tmp_path, 1)
    with serving(jobs_config(tmp_path)) as running, Client(running.address, timeout_s=20.0) as client:
        running.encoder.overloads_left = left = 10**6
        job = client.jobs.create(task())
        eventually(lambda: running.encoder.overloads_left < left)
        client.jobs.cancel(job.id)
        assert _ended(client, job.id) is JobState.CANCELLED


@full_effort
@pytest.mark.parametrize("passes", [0, 1], ids=["of its columns", "of its rows"])
def test_a_job_whose_file_never_comes_is_cancelled_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: int
) -> None:
    write_items(tmp_path, 3)
    files, ended_test, left = fsspec.filesystem("memory"), threading.Event(), list(range(passes))
    files.pipe("/never/a.csv", b"id,text\na,text\n")
    get_file = type(files).get_file

    def never(self: object, *arguments: object) -> None:
        if left:
            left.pop()
        else:
            ended_test.wait(60.0)
        get_file(self, *arguments)

    monkeypatch.setattr(type(files), "get_file", never)
    config = jobs_config(tmp_path, "memory://never/")
    with serving(config) as running, Client(running.address, timeout_s=20.0) as client:
        job = client.jobs.create(task("memory://never/a.csv"))
        next(state for state in client.jobs.watch(job.id) if state.state is JobState.RUNNING)
        eventually(lambda: not left)
        client.jobs.cancel(job.id)
        assert _ended(client, job.id) is JobState.CANCELLED
        assert _ended(client, client.jobs.create(task()).id) is JobState.DONE
        ended_test.set()


def _ended(client: Client, id: str) -> JobState:
    return list(client.jobs.watch(id, timeout_s=20.0))[-1].state
