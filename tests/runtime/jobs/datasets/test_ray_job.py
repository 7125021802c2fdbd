"""Jobs on Ray give what a job of one process gives, also where a node is lost."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest, Unavailable
from rankport.runtime.jobs.config import FileColumns
from rankport.runtime.jobs.datasets.ray_config import RayConfig
from rankport.runtime.jobs.datasets.ray_job import run_ray_job
from rankport.runtime.jobs.encode_report import EncodeProgress
from rankport.runtime.jobs.rows.items_file import ItemsFile
from rankport.runtime.jobs.rows.records import BadRow
from support.effort import full_effort
from support.jobs.dataset_jobs import (
    RAY_WARNS,
    ROWS_A_FILE,
    booked,
    in_one_process,
    stored,
    target,
    texts_of,
    write_files,
)

ray = pytest.importorskip("ray")
pytestmark = RAY_WARNS


@pytest.fixture(scope="module")
def cluster(found: None) -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def small_files(folder: Path, texts: Mapping[str, Sequence[str]]) -> list[ItemsFile]:
    """Files of a few rows, whose ids are s1, s2 and on in each."""
    for name, given in texts.items():
        rows = ({"id": f"s{line}", "text": text} for line, text in enumerate(given, 1))
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [ItemsFile.open(folder / name, FileColumns()) for name in texts]


def test_a_dataset_is_what_one_process_makes_and_is_made_once(cluster: None, tmp_path: Path) -> None:
    large, out, book = write_files(tmp_path, 2, "jsonl"), tmp_path / "out", tmp_path / "book"
    files = (*large, *small_files(tmp_path, {"2.jsonl": ["one", "two"], "3.jsonl": ["three", "", "four"]}))
    bad: list[BadRow] = []
    config = RayConfig(read_rows=40)  # two windows of 32 rows a task
    report = run_ray_job(booked(book), target(out, "lance"), files, config, on_bad_row=bad.append)
    expected = in_one_process(tmp_path, files)
    assert stored(out) == expected
    assert (report.rows_read, report.encoded, report.bad_rows) == (
        2 * ROWS_A_FILE + 5,
        2 * ROWS_A_FILE - 1,
        6,
    )
    of_small = [row for row in bad if row.file not in {str(file.path) for file in large}]
    assert [(row.file, row.line, row.id) for row in of_small] == [
        (str(files[3].path), line, f"s{line}") for line in (1, 2)
    ]
    assert sorted((row.line, row.reason, row.id) for row in bad if row not in of_small) == sorted(
        (line, reason, id)
        for number in range(2)
        for line, reason, id in (
            (8, "is malformed", f"i{number}-7"),
            (200, f"id 'i{number}-0' came earlier in the input", f"i{number}-0"),
        )
    )
    assert {row.line: json.loads(row.content) for row in bad if row.file == str(files[0].path)} == {
        8: {"id": "i0-7", "text": "malformed"},
        200: {"id": "i0-0", "text": "text xxxxxxxxxxxxxxxxxxxxxxxxx 199"},
    }
    parts = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert [part["name"] for part in json.loads((out / "_dataset.json").read_text())["parts"]] == sorted(
        parts
    )
    computed = texts_of(book)
    (tmp_path / "again").mkdir()
    (tmp_path / "1.jsonl").write_text((tmp_path / "1.jsonl").read_text().replace("text  0", "text other"))
    log, levels = logging.getLogger("ray.data"), set[int]()
    before = log.level

    def note_level(progress: EncodeProgress) -> None:
        levels.add(log.level)

    again = run_ray_job(booked(book), target(out, "lance"), files, RayConfig(), on_progress=note_level)
    assert (levels, log.level) == ({logging.ERROR}, before)  # steps of Ray's are no lines of ours
    assert (again.encoded, again.unchanged) == (31, 2 * ROWS_A_FILE - 1 - 31)
    assert texts_of(book) == computed + 31
    assert stored(out) == in_one_process(tmp_path / "again", files)
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert len(kept) == len(parts)
    assert len(kept.items() & parts.items()) == len(parts) - 1


@full_effort
def test_rows_may_all_be_bad(cluster: None, tmp_path: Path) -> None:
    bad: list[BadRow] = []
    (file,) = small_files(tmp_path, {"a.jsonl": ["", ""]})
    report = run_ray_job(
        booked(tmp_path / "book"), target(tmp_path / "out"), (file,), RayConfig(), on_bad_row=bad.append
    )
    assert (report.rows_read, report.encoded, [row.line for row in bad]) == (2, 0, [1, 2])


def test_a_file_that_breaks_off_ends_the_job_with_its_own_error(cluster: None, tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text('id,text\na,first\nb,"never closed\n')
    file = ItemsFile.open(tmp_path / "0.csv", FileColumns())
    with pytest.raises(InvalidRequest, match="quote"):
        run_ray_job(booked(tmp_path / "book"), target(tmp_path / "out"), (file,), RayConfig())
    assert not (tmp_path / "out" / "_dataset.json").exists()


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    ray.shutdown()
    files = write_files(tmp_path, 1)
    with pytest.raises(Unavailable, match=r"no Ray cluster at 127\.0\.0\.1:1: "):
        run_ray_job(
            booked(tmp_path / "book"), target(tmp_path / "out"), files, RayConfig(address="127.0.0.1:1")
        )
