"""Folder of a dataset: one job at a time fills it, and what killed jobs left of files is deleted at the end."""

import errno
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, StoreError
from rankport.protos.types import Truncation
from rankport.runtime.jobs.datasets.formats import parts_in
from rankport.runtime.jobs.datasets.local_job import run_dataset_job
from rankport.runtime.jobs.rows.records import BadRow
from support.hash_encoder import HashEncoder
from support.jobs.dataset_jobs import stored, target, write_files


class _ActingEncoder(HashEncoder):
    """Does something once, behind its first window."""

    def __init__(self, act: object) -> None:
        super().__init__(padding_matters=True)
        self._act: object | None = act

    def encode(self, texts: Sequence[str], *, truncation: Truncation = "error") -> NDArray[np.float16]:
        tokens = super().encode(texts, truncation=truncation)
        if len(self.calls) >= 15 and callable(self._act):
            act, self._act = self._act, None
            act()
        return tokens


def test_a_second_job_is_refused_while_one_fills_the_folder(tmp_path: Path) -> None:
    files, out = write_files(tmp_path, 2), tmp_path / "out"
    refused: list[str] = []

    def act() -> None:
        with pytest.raises(StoreError) as error:
            run_dataset_job(HashEncoder(), target(out), files[:1])
        refused.append(str(error.value))

    run_dataset_job(_ActingEncoder(act), target(out), files)
    assert refused == [
        f"another job fills dataset {out}: wait until it has ended, or give another folder",
    ]
    assert len(stored(out)) == 2 * 198


def test_a_job_that_failed_keeps_no_other_out(tmp_path: Path) -> None:
    files, out = write_files(tmp_path, 1), tmp_path / "out"

    def act() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        run_dataset_job(_ActingEncoder(act), target(out), files)
    (out / "part-1.parquet").touch()  # of somebody else
    with pytest.raises(StoreError, match="holds"):
        run_dataset_job(HashEncoder(), target(out), files)
    (out / "part-1.parquet").unlink()
    assert run_dataset_job(HashEncoder(padding_matters=True), target(out), files).bad_rows == 2


def test_parts_that_are_deleted_under_a_job_end_it_and_the_dataset_of_before_stays(tmp_path: Path) -> None:
    files, out = write_files(tmp_path, 2), tmp_path / "out"
    run_dataset_job(HashEncoder(padding_matters=True), target(out), files[1:])
    before = (out / "_dataset.json").read_bytes()

    def act() -> None:
        for part in out.glob("part-00000-0000000-*"):
            if part.name.encode() not in before:
                part.unlink()

    with pytest.raises(StoreError, match="1 part of this job is gone, part-00000-0000000-"):
        run_dataset_job(_ActingEncoder(act), target(out), files)
    assert (out / "_dataset.json").read_bytes() == before
    assert run_dataset_job(HashEncoder(padding_matters=True), target(out), files).encoded == 31
    assert len(stored(out)) == 2 * 198


def test_files_that_killed_jobs_left_half_written_are_deleted_and_others_stay(tmp_path: Path) -> None:
    files, out = write_files(tmp_path, 1), tmp_path / "out"
    out.mkdir()
    left = [".part-00000-0000001-0123456789abcdef.parquet.77.writing", "._dataset.json.77.writing"]
    kept = [".hidden.writing", ".part-1.parquet.7.writing"]
    for name in (*left, *kept):
        (out / name).touch()
    run_dataset_job(HashEncoder(), target(out), files)
    assert sorted(path.name for path in out.glob(".*")) == sorted(kept)


def test_a_report_has_the_first_bad_rows_whatever_their_number(tmp_path: Path) -> None:
    files, out = write_files(tmp_path, 3), tmp_path / "out"
    of_three = target(out)
    bounded = replace(of_three, config=replace(of_three.config, max_bad_rows_kept=3))
    told: list[BadRow] = []
    report = run_dataset_job(HashEncoder(), bounded, files, on_bad_row=told.append)
    assert (report.bad_rows, len(told)) == (6, 6)
    assert report.first_bad_rows == tuple(told[:3])


def test_an_encoder_that_fails_as_a_whole_lets_the_folder_go(tmp_path: Path) -> None:
    class Broken(HashEncoder):
        def encode(self, texts: Sequence[str], *, truncation: Truncation = "error") -> NDArray[np.float16]:
            raise BackendError("the device is lost")

    files, out = write_files(tmp_path, 1), tmp_path / "out"
    for _ in range(2):
        with pytest.raises(BackendError, match="in a row"):
            run_dataset_job(Broken(), target(out), files)


def test_names_are_durable_before_the_dataset_has_them_and_before_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, out = write_files(tmp_path, 2), tmp_path / "out"
    run_dataset_job(HashEncoder(), target(out), files[1:])
    old = {part.name for part in parts_in(out)}
    seen: list[tuple[bool, int]] = []
    sync = os.fsync

    def noting(descriptor: int) -> None:
        sync(descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            named = {part["name"] for part in json.loads((out / "_dataset.json").read_text())["parts"]}
            there = {part.name for part in parts_in(out)}
            seen.append((named == old, len(there & old)))
            raise OSError(errno.EINVAL, "this file system syncs no folders")

    monkeypatch.setattr(os, "fsync", noting)
    run_dataset_job(HashEncoder(), target(out), files)
    assert seen == [(True, len(old)), (False, len(old))]
    assert not old & {part.name for part in parts_in(out)}
