"""Datasets that one process makes: the same tokens as a store's, whole parts, made once."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rankport.protos.errors import StoreError
from rankport.runtime.jobs.datasets.local_job import run_dataset_job
from rankport.runtime.jobs.datasets.parts import read_part, schema_of, whose
from rankport.runtime.jobs.items_file import BadRow
from rankport.runtime.store.token_spec import TokenSpec
from support.dataset_jobs import ROWS_A_FILE, SPEC, in_one_process, stored, target, write_files
from support.hash_encoder import HashEncoder


def test_a_dataset_has_what_a_store_has(tmp_path: Path) -> None:
    files, out = write_files(tmp_path, 2), tmp_path / "out"
    bad: list[BadRow] = []
    report = run_dataset_job(HashEncoder(padding_matters=True), target(out), files, on_bad_row=bad.append)
    assert stored(out) == in_one_process(tmp_path, files)
    assert (report.rows_read, report.encoded, report.bad_rows) == (2 * ROWS_A_FILE, 2 * ROWS_A_FILE - 4, 4)
    assert bad[:2] == [
        BadRow(9, "is malformed", "i0-7", str(files[0].path)),
        BadRow(201, "id 'i0-0' came earlier in the input", "i0-0", str(files[0].path)),
    ]
    parts = [part["name"] for part in json.loads((out / "dataset.json").read_text())["parts"]]
    assert parts == sorted(path.name for path in out.glob("part-*"))


def test_a_changed_row_makes_its_window_anew_and_no_other(tmp_path: Path) -> None:
    files, out = write_files(tmp_path, 2), tmp_path / "out"
    run_dataset_job(HashEncoder(padding_matters=True), target(out), files)
    before = {path.name for path in out.glob("part-*")}
    (tmp_path / "1.csv").write_text((tmp_path / "1.csv").read_text().replace("text  0", "text other"))
    encoder = HashEncoder(padding_matters=True)
    report = run_dataset_job(encoder, target(out), files)
    assert (report.encoded, report.unchanged) == (
        31,
        2 * ROWS_A_FILE - 4 - 31,
    )  # one of the window is malformed
    after = {path.name for path in out.glob("part-*")}
    assert len(after) == len(before) == len(after & before) + 1
    (tmp_path / "again").mkdir()
    assert stored(out) == in_one_process(tmp_path / "again", files)


def test_an_id_that_is_no_longer_first_elsewhere_is_encoded(tmp_path: Path) -> None:
    files, out = write_files(tmp_path, 2), tmp_path / "out"
    second = (tmp_path / "1.csv").read_text()
    (tmp_path / "1.csv").write_text(second.replace("i1-5,", "i0-5,"))
    run_dataset_job(HashEncoder(), target(out), files)
    assert "i1-5" not in stored(out)
    (tmp_path / "0.csv").write_text((tmp_path / "0.csv").read_text().replace("i0-5,", "other,"))
    run_dataset_job(HashEncoder(), target(out), files)
    (tmp_path / "again").mkdir()
    assert stored(out).keys() == in_one_process(tmp_path / "again", files).keys()


def test_parts_are_plain_parquet_with_whose_tokens_they_are(tmp_path: Path) -> None:
    run_dataset_job(HashEncoder(), target(tmp_path / "out"), write_files(tmp_path, 1))
    path = min((tmp_path / "out").glob("part-*"))
    table = pq.read_table(path)
    assert table.schema.field("tokens").type == pa.list_(pa.float16(), 16)
    assert whose(table.schema, path) == ("hash-encoder", SPEC)
    pq.write_table(table.replace_schema_metadata(None), path)
    with pytest.raises(StoreError, match="is no part of a dataset of embedding tokens"):
        read_part(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="cannot be read"):
        read_part(path)
    with pytest.raises(StoreError, match="dtype 'int8' cannot be in a dataset: use float16, float32"):
        schema_of("e", TokenSpec(1, 2, "int8"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"dataset .*file/out cannot be made"):
        run_dataset_job(HashEncoder(), target(tmp_path / "file" / "out"), write_files(tmp_path, 1))
