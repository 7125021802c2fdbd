"""Service `Jobs`: offline jobs of a server, through its client."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, NotFound, Unavailable
from rankport.protos.jobs import Job, JobBadRow, JobCounts, JobState
from rankport.protos.versions import ModelState
from rankport.runtime.server.jobs.book import JobBook
from rankport.runtime.server.server import Server
from rankport.runtime.store.contract import TokenNamespace
from rankport.runtime.store.opening import open_store
from rankport.sdk import Client
from support.servers.deterministic_models import DeterministicEncoder
from support.servers.jobs_server import jobs_config, task, write_items
from support.servers.serving import LOCAL, serving

TESTS = Path(__file__).parents[3]


@contextmanager
def jobs_of(folder: Path, *roots: str) -> Iterator[tuple[Client, DeterministicEncoder]]:
    """A client of a server with jobs in a folder, and its encoder."""
    with serving(jobs_config(folder, *roots)) as running, Client(running.address, timeout_s=20.0) as client:
        yield client, running.encoder


@contextmanager
def stored(folder: Path, store: str = "tokens") -> Iterator[TokenNamespace]:
    """Namespace that the encoder's jobs have filled."""
    with open_store(folder / store, read_only=True) as tokens:
        yield tokens.namespace(DeterministicEncoder.fingerprint)


def ended(client: Client, id: str) -> Job:
    """The job, once it has ended."""
    return list(client.jobs.watch(id, timeout_s=20.0))[-1]


def check_stored(folder: Path, texts: dict[str, str]) -> None:
    """Each item stands once, with the tokens of its text."""
    encoder = DeterministicEncoder()
    with stored(folder) as namespace:
        assert sorted(namespace.keys()) == sorted(texts)
        expected = encoder.encode(list(texts.values()))
        np.testing.assert_array_equal(namespace.read(list(texts)).tokens, expected)
    encoder.close()


def test_a_job_stores_the_tokens_of_its_file(tmp_path: Path) -> None:
    texts = write_items(tmp_path, 100)
    with (tmp_path / "items.csv").open("a") as file:
        file.write("i3,again\nx,bad\n")
    with jobs_of(tmp_path) as (client, _):
        created = client.jobs.create(task(), "nightly")
        assert (created.id, created.state) == ("nightly", JobState.QUEUED)
        states = list(client.jobs.watch("nightly", timeout_s=20.0))
        done = states[-1]
        assert done.state is JobState.DONE
        assert done.counts == JobCounts(rows=102, encoded=100, unchanged=0, bad_rows=2, truncated=0, pruned=0)
        assert done.fingerprint == DeterministicEncoder.fingerprint
        assert done.runs == 1
        assert done.created_s <= done.started_s <= done.ended_s
        assert JobBadRow(102, "id 'i3' came earlier in the input", "i3") in done.first_bad_rows
        assert {row.id for row in done.first_bad_rows} == {"i3", "x"}
        assert client.jobs.get("nightly") == done
        assert client.jobs.create(task(), "nightly") == done  # again makes no second one
        again = ended(client, client.jobs.create(task()).id)
        assert (again.counts.encoded, again.counts.unchanged) == (0, 100)
        assert [job.id for job in client.jobs.list()] == [again.id, "nightly"]
    check_stored(tmp_path, texts)


def test_a_job_whose_file_lost_most_of_its_items_deletes_none_and_fails(tmp_path: Path) -> None:
    texts = write_items(tmp_path, 10)
    with jobs_of(tmp_path) as (client, _):
        assert ended(client, client.jobs.create(task()).id).state is JobState.DONE
        left = write_items(tmp_path, 4)
        failed = ended(client, client.jobs.create(task(prune=True)).id)
        assert failed.state is JobState.FAILED
        assert failed.reason.startswith("not pruned: 6 of 10 stored items are not in the input")
        assert (failed.counts.unchanged, failed.counts.pruned) == (4, 0)
        with pytest.raises(InvalidRequest, match="max_prune_share"):
            client.jobs.create(task(max_prune_share=1.0))
        sure = client.jobs.create(task(prune=True, max_prune_share=0.6), "sure")
        assert sure.task.max_prune_share == 0.6
        done = ended(client, sure.id)
        assert (done.state, done.counts.pruned) == (JobState.DONE, 6)
    check_stored(tmp_path, left)
    assert len(texts) == 10


def test_a_cancelled_job_ends_behind_its_batch_and_the_next_one_runs(tmp_path: Path) -> None:
    texts = write_items(tmp_path, 100)
    with jobs_of(tmp_path) as (client, encoder):
        encoder.worker.gate.clear()
        first = client.jobs.create(task())
        waiting = client.jobs.create(task(store="other"))
        next(job for job in client.jobs.watch(first.id) if job.total_rows or job.state is JobState.RUNNING)
        assert client.jobs.cancel(waiting.id).state is JobState.CANCELLED
        client.jobs.cancel(first.id)
        with pytest.raises(InvalidRequest, match="is to end, and runs: ask again once it is cancelled"):
            client.jobs.retry(first.id)
        encoder.worker.gate.set()
        cancelled = ended(client, first.id)
        assert cancelled.state is JobState.CANCELLED
        assert cancelled.counts.rows < 100
        assert ended(client, client.jobs.create(task()).id).state is JobState.DONE
        assert client.jobs.cancel(first.id) == cancelled  # nothing more happens to it
        assert not (tmp_path / "other").exists()
        assert client.jobs.retry(waiting.id).state is JobState.QUEUED  # unless it is wanted again
        again = ended(client, waiting.id)
        assert (again.state, again.runs, again.counts.encoded) == (JobState.DONE, 1, 100)
        with pytest.raises(InvalidRequest, match="is done: create one with another id"):
            client.jobs.retry(waiting.id)
    check_stored(tmp_path, texts)


def test_a_job_goes_on_after_the_server_was_stopped(tmp_path: Path) -> None:
    texts = write_items(tmp_path, 100)
    with jobs_of(tmp_path) as (client, encoder):
        encoder.worker.gate.clear()
        job = client.jobs.create(task())
        next(state for state in client.jobs.watch(job.id) if state.state is JobState.RUNNING)
        encoder.worker.gate.set()
    with jobs_of(tmp_path) as (client, _):
        done = ended(client, job.id)
        assert done.state is JobState.DONE
        assert done.counts.encoded + done.counts.unchanged == 100
    check_stored(tmp_path, texts)


def test_who_watches_a_job_sees_its_end_after_a_restart_of_the_server(tmp_path: Path) -> None:
    write_items(tmp_path, 100)
    with serving(jobs_config(tmp_path)) as running:
        running.encoder.worker.gate.clear()
        client, port = Client(running.address), int(running.address.rpartition(":")[2])
        states = client.jobs.watch(client.jobs.create(task(), "nightly").id, timeout_s=60.0)
        assert not next(states).state.ended
    with serving(replace(jobs_config(tmp_path), port=port)):
        assert list(states)[-1].state is JobState.DONE
    with client, pytest.raises(Unavailable):  # who saw nothing of it so far is told at once
        next(client.jobs.watch("nightly"))


def test_a_job_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    texts = write_items(tmp_path, 300)
    command = [sys.executable, "-m", "support.servers.jobs_server", str(tmp_path)]
    with subprocess.Popen(
        command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        with Client(process.stdout.readline().strip(), timeout_s=20.0) as client:
            job = client.jobs.create(task())
            # The book has progress now and then: what is stored then is part of the whole.
            next(state for state in client.jobs.watch(job.id) if state.counts.encoded)
            process.kill()
    with stored(tmp_path) as namespace:
        assert 0 < len(namespace) < 300
    with jobs_of(tmp_path) as (client, _):
        done = ended(client, job.id)
        assert (done.state, done.runs) == (JobState.DONE, 2)
        assert done.counts.unchanged > 0
        assert done.counts.encoded + done.counts.unchanged == 300
    check_stored(tmp_path, texts)


def test_an_encoder_that_is_unloaded_ends_its_job_with_the_reason(tmp_path: Path) -> None:
    write_items(tmp_path, 100)
    with jobs_of(tmp_path) as (client, encoder):
        encoder.worker.gate.clear()
        job = client.jobs.create(task())
        assert encoder.worker.arrived.acquire(timeout=20.0)
        with ThreadPoolExecutor(1) as pool:
            unloading = pool.submit(client.admin.unload, "encoder@1")
            while client.admin.versions().versions[-1].state is not ModelState.DRAINING:
                assert not unloading.done()
            encoder.worker.gate.set()
            unloading.result()
        failed = ended(client, job.id)
        assert failed.state is JobState.FAILED
        assert failed.reason.startswith("encoder 'encoder' (eeee")
        assert "is served no more: load it and create the job again" in failed.reason
        with pytest.raises(NotFound):
            client.jobs.create(task())


def test_places_outside_of_the_roots_are_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    write_items(inside, 3)
    write_items(tmp_path, 3)
    (inside / "link.csv").symlink_to(tmp_path / "items.csv")
    with jobs_of(inside) as (client, _):
        for items in ("../items.csv", str(tmp_path / "items.csv"), "link.csv", "", "a\0b"):
            with pytest.raises(InvalidRequest, match=r"^items "):
                client.jobs.create(task(items))
        with pytest.raises(NotFound, match=r"^no items file 'none\.csv' below .*inside"):
            client.jobs.create(task("none.csv"))
        for store in ("../tokens", "/tokens", str(tmp_path / "tokens")):
            with pytest.raises(InvalidRequest, match=r"^store .* is not below the server's job roots"):
                client.jobs.create(task(store=store))
        with pytest.raises(InvalidRequest, match="store is empty, and this server has none"):
            client.jobs.create(task(store=""))
        assert client.jobs.list() == ()


def test_patterns_folders_and_urls_are_read_below_the_roots(tmp_path: Path) -> None:
    texts = write_items(tmp_path, 10)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.csv").write_text("id,text\nb,of a folder\n")
    fsspec.filesystem("memory").pipe("/catalogue/a/c.csv", b"id,text\nc,behind a URL\n")
    with jobs_of(tmp_path, "memory://catalogue/a") as (client, _):
        for items, counts in {"*.csv": (10, 0), "**/*.csv": (1, 10), "more": (0, 1)}.items():
            done = ended(client, client.jobs.create(task(items)).id)
            assert (done.state, done.counts.encoded, done.counts.unchanged) == (JobState.DONE, *counts)
        for items in ("memory://catalogue/a/*.csv", "memory://catalogue/a"):
            done = ended(client, client.jobs.create(task(items)).id)
            assert (done.state, done.reason) == (JobState.DONE, "")
        fsspec.filesystem("memory").pipe("/catalogue/a/d.csv", b"id,text\nd,new\n")
        assert ended(client, client.jobs.create(task("memory://catalogue/a")).id).counts.encoded == 1
        with pytest.raises(InvalidRequest, match=r"^items 'memory://catalogue/b' is not below"):
            client.jobs.create(task("memory://catalogue/b"))
    check_stored(tmp_path, {**texts, "b": "of a folder", "c": "behind a URL", "d": "new"})


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"text_columns": ("title",)}, "no column 'title'; its columns: id, text"),
        ({"file_format": "xml"}, "unknown format 'xml'"),
        ({"side": "query"}, "side is 'query', and 'encoder' of kind item-encoder has one side"),
        ({"model": "ranker"}, "ranker"),
        ({"model": "none"}, "none"),
    ],
)
def test_a_task_that_cannot_be_begun_is_refused_at_once(
    tmp_path: Path, fields: dict[str, str], error: str
) -> None:
    write_items(tmp_path, 3)
    with jobs_of(tmp_path) as (client, _), pytest.raises((InvalidRequest, NotFound), match=error):
        client.jobs.create(task(**fields))


def test_a_file_without_a_usable_row_fails(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id,text\n,a\nb,\n")
    with jobs_of(tmp_path) as (client, _):
        failed = ended(client, client.jobs.create(task()).id)
        assert (failed.state, failed.reason) == (JobState.FAILED, "none of 2 rows could be used")
        assert [row.reason for row in failed.first_bad_rows] == ["no id in id", "no text in text"]


def test_a_job_that_breaks_off_says_why_and_the_next_one_runs(tmp_path: Path) -> None:
    write_items(tmp_path, 3)
    (tmp_path / "broken.csv").write_text('id,text\na,first\nb,"never closed\n')
    with jobs_of(tmp_path) as (client, _):
        failed = ended(client, client.jobs.create(task("broken.csv")).id)
        assert failed.state is JobState.FAILED
        assert "quote" in failed.reason
        assert ended(client, client.jobs.create(task()).id).state is JobState.DONE


def test_a_server_without_a_file_of_jobs_says_so(tmp_path: Path) -> None:
    with serving(LOCAL) as running, Client(running.address) as client:
        with pytest.raises(InvalidRequest, match="this server keeps no jobs: start it with --jobs-file"):
            client.jobs.create(task())
        with pytest.raises(InvalidRequest, match="this server keeps no jobs"):
            list(client.jobs.watch("a"))


def test_a_job_file_in_use_keeps_a_server_from_starting(tmp_path: Path) -> None:
    encoder = DeterministicEncoder()
    with jobs_of(tmp_path), pytest.raises(InvalidRequest, match="another server has it open"):
        Server({"encoder": encoder}, jobs_config(tmp_path))  # type: ignore[dict-item]
    encoder.close()


def test_who_looks_at_a_job_while_the_disk_writes_one_holds_up_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, written, get = threading.Semaphore(0), threading.Event(), JobBook.get

    def waits(book: JobBook, id: str) -> Job:
        reading.release()
        assert written.wait(20.0)
        return get(book, id)

    with jobs_of(tmp_path) as (client, _), ThreadPoolExecutor(2) as looking:
        write_items(tmp_path, 1)
        ended(client, client.jobs.create(task(), "nightly").id)
        monkeypatch.setattr(JobBook, "get", waits)
        looks = [looking.submit(client.jobs.get, "nightly"), looking.submit(ended, client, "nightly")]
        for _ in looks:
            assert reading.acquire(timeout=5.0)
        assert client.models()
        written.set()
        assert {look.result().id for look in looks} == {"nightly"}
