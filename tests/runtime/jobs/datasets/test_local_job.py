"""Datasets that one process makes: the same tokens as a store's, whole parts, made once."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, InvalidRequest, StoreError, Unavailable
from rankport.protos.types import Truncation
from rankport.runtime.jobs.config import FileColumns
from rankport.runtime.jobs.datasets import DatasetFormat
from rankport.runtime.jobs.datasets.formats import parts_in
from rankport.runtime.jobs.datasets.local_job import run_dataset_job
from rankport.runtime.jobs.datasets.parts import read_part, schema_of, whose
from rankport.runtime.jobs.encode_report import EncodeProgress
from rankport.runtime.jobs.rows.items_file import ItemsFile
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from rankport.sdk.store_copies import copy_store
from support.effort import every_run
from support.hash_encoder import HashEncoder
from support.jobs.dataset_jobs import CONFIG, ROWS_A_FILE, SPEC, in_one_process, stored, target, write_files


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
    parts = [part["name"] for part in json.loads((out / "_dataset.json").read_text())["parts"]]
    assert parts == sorted(path.name for path in out.glob("part-*"))
    assert (
        pq.read_table(out).num_rows == report.encoded
    )  # nothing else in the folder is in the way of other tools


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


class OutOfMemory(HashEncoder):
    """Encoder that has no memory for a text, so far."""

    short = True

    def encode(self, texts: Sequence[str], *, truncation: Truncation = "error") -> NDArray[np.float16]:
        if self.short and any(text.endswith(" 9") for text in texts):
            raise BackendError("out of memory")
        return super().encode(texts, truncation=truncation)


@pytest.mark.parametrize("part_format", every_run(["parquet", "arrow", "lance"], ["parquet"]))
def test_a_row_that_the_encoder_failed_on_is_tried_again(tmp_path: Path, part_format: DatasetFormat) -> None:
    files, encoder = write_files(tmp_path, 1), OutOfMemory(padding_matters=True)
    out = target(tmp_path / "out", part_format)
    assert run_dataset_job(encoder, out, files).bad_rows == 3
    encoder.short = False

    def killed(progress: EncodeProgress) -> None:
        if progress.encoded:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_dataset_job(encoder, out, files, on_progress=killed)
    copy_store(out.folder, str(tmp_path / "before"))  # the dataset that stands there is whole
    with open_store(tmp_path / "before", read_only=True) as store:
        assert len(store.namespace(encoder.fingerprint)) == ROWS_A_FILE - 3
    encoder.short = True  # again: then each name has such a part, of which the dataset has one
    (tmp_path / "0.csv").touch()
    report = run_dataset_job(encoder, out, files)
    assert (report.encoded, report.unchanged, report.bad_rows) == (0, ROWS_A_FILE - 2, 2)
    assert stored(tmp_path / "out") == in_one_process(tmp_path, files)
    assert run_dataset_job(encoder, out, files).unchanged == ROWS_A_FILE - 2


@pytest.mark.parametrize("part_format", every_run(["parquet", "lance"], ["lance"]))
@pytest.mark.parametrize("step", ["sync_names", "write_durably"])
def test_a_job_that_dies_at_its_end_leaves_the_dataset_of_before(
    tmp_path: Path, part_format: DatasetFormat, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, out = write_files(tmp_path, 1), target(tmp_path / "out", part_format)
    encoder = HashEncoder(padding_matters=True)
    run_dataset_job(encoder, out, files)
    before = in_one_process(tmp_path, files)
    (tmp_path / "0.csv").write_text((tmp_path / "0.csv").read_text().replace("text  0", "text other"))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"rankport.runtime.jobs.datasets.tally.{step}", die)
        with pytest.raises(KeyboardInterrupt):
            run_dataset_job(encoder, out, files)
    copy_store(out.folder, str(tmp_path / "copy"))
    with open_store(tmp_path / "copy", read_only=True) as store:
        namespace = store.namespace(encoder.fingerprint)
        infos = namespace.info_many(list(before))
        assert [info and info.content_hash for info in infos] == [
            item.content_hash for item in before.values()
        ]
    assert run_dataset_job(encoder, out, files).encoded == 0


def test_small_files_share_parts_and_only_the_changed_part_is_made_anew(tmp_path: Path) -> None:
    write_files(tmp_path, 70, small=True)
    for number in range(70):
        path = tmp_path / f"{number}.csv"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))  # a head, and two rows
    files = tuple(ItemsFile.open(tmp_path / f"{number}.csv", FileColumns()) for number in range(70))
    (tmp_path / "2.csv").write_text("id,text\ni0-0,again\nb,\n")
    out, bad = tmp_path / "out", list[BadRow]()
    report = run_dataset_job(HashEncoder(padding_matters=True), target(out), files, on_bad_row=bad.append)
    assert (report.rows_read, report.encoded, len(parts_in(out))) == (140, 138, 5)  # of 64 files 4, and of 6
    assert [(row.file, row.line) for row in bad] == [(str(files[2].path), 2), (str(files[2].path), 3)]
    assert stored(out) == in_one_process(tmp_path, files)
    (tmp_path / "69.csv").write_text("id,text\ni69-0,other\n")
    told: list[BadRow] = []
    again = run_dataset_job(HashEncoder(padding_matters=True), target(out), files, on_bad_row=told.append)
    assert (again.encoded, again.unchanged, told) == (11, 126, bad)


def test_a_file_without_rows_that_goes_leaves_the_others_their_bad_rows(tmp_path: Path) -> None:
    texts = {"a": "1,red\n", "empty": "", "b": "2,blue\n3,malformed\n"}
    for name, rows in texts.items():
        (tmp_path / f"{name}.csv").write_text(f"id,text\n{rows}")
    first, empty, last = (ItemsFile.open(tmp_path / f"{name}.csv", FileColumns()) for name in texts)
    told: list[BadRow] = []
    for files in ((first, empty, last), (first, last)):
        run_dataset_job(HashEncoder(), target(tmp_path / "out"), files, on_bad_row=told.append)
    assert [(row.file, row.line, row.reason) for row in told] == [(str(last.path), 3, "is malformed")] * 2


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (["manifest.json"], "manifest.json"),
        (["data.mdb", "lock.mdb"], "data.mdb"),  # a token store, which `store compact` would make anew
        (["part-00000-1f0c.snappy.parquet", "_SUCCESS"], "_SUCCESS"),  # as Spark leaves its output
        (["part-00000-0000000.parquet"], "part-00000-0000000.parquet"),
        ([".gitignore", "notes.txt"], "notes.txt"),
        (["data/0.lance", "_versions/1.manifest"], "_versions"),  # a dataset of somebody's in Lance
        (["data/items.csv"], "data"),
    ],
)
def test_a_folder_of_other_files_is_refused_and_left_as_it_is(
    tmp_path: Path, names: list[str], refused: str
) -> None:
    files, folder = write_files(tmp_path, 1), tmp_path / "folder"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    with pytest.raises(
        StoreError, match=f"holds '{re.escape(refused)}': a new dataset needs an empty folder"
    ):
        run_dataset_job(HashEncoder(padding_matters=True), target(folder), files)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(names)


def test_files_of_others_beside_a_dataset_are_left_there(tmp_path: Path) -> None:
    files, out = write_files(tmp_path, 2), tmp_path / "out"
    run_dataset_job(HashEncoder(), target(out), files)
    others = ["part-00000-1f0c.snappy.parquet", "part-00000-0000000.parquet", "notes.txt"]
    for name in others:
        (out / name).write_text("theirs")
    run_dataset_job(HashEncoder(), target(out), files[:1])
    assert [(out / name).read_text() for name in others] == ["theirs"] * 3
    own = {path.name for path in out.glob("part-*")} - set(others)
    assert own == {part["name"] for part in json.loads((out / "_dataset.json").read_text())["parts"]}


def test_a_dataset_that_is_opened_as_a_store_is_told_what_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_dataset_job(HashEncoder(), target(out), write_files(tmp_path, 1))
    with pytest.raises(StoreError, match=r"is a dataset, for other tools: `rankport store copy .*out STORE`"):
        open_store(out, read_only=True)


def test_a_dataset_whose_file_has_its_name_of_before_is_told(tmp_path: Path) -> None:
    files, out = write_files(tmp_path, 1), tmp_path / "out"
    run_dataset_job(HashEncoder(padding_matters=True), target(out), files)
    (out / "_dataset.json").rename(out / "dataset.json")
    for use in (
        lambda: run_dataset_job(HashEncoder(), target(out), files),
        lambda: copy_store(str(out), str(tmp_path / "store")),
    ):
        with pytest.raises(StoreError, match=r"whose file dataset\.json is _dataset\.json by now: rename it"):
            use()
    (out / "dataset.json").rename(out / "_dataset.json")
    assert run_dataset_job(HashEncoder(padding_matters=True), target(out), files).encoded == 0


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


def test_a_part_with_a_bit_that_flipped_is_not_read(tmp_path: Path) -> None:
    run_dataset_job(HashEncoder(), target(tmp_path / "out"), write_files(tmp_path, 1))
    path = min((tmp_path / "out").glob("part-*"))
    token = read_part(path)["tokens"].combine_chunks().flatten().to_numpy()[:16].tobytes()
    content = path.read_bytes()
    assert content.count(token) == 1
    path.write_bytes(content.replace(token, bytes([token[0] ^ 1]) + token[1:]))
    with pytest.raises(StoreError, match="cannot be read"):
        read_part(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"dataset .*file/out cannot be made"):
        run_dataset_job(HashEncoder(), target(tmp_path / "file" / "out"), write_files(tmp_path, 1))


@pytest.mark.parametrize("part_format", ["arrow", "lance"])
def test_other_formats_have_the_same_rows_and_make_only_what_is_missing(
    tmp_path: Path, part_format: DatasetFormat
) -> None:
    files, out = write_files(tmp_path, 2), tmp_path / "out"

    class Failing(HashEncoder):
        def encode(self, texts: Sequence[str], *, truncation: Truncation = "error") -> NDArray[np.float16]:
            if len(parts_in(out)) == 4:
                raise Unavailable("it is gone")
            return super().encode(texts, truncation=truncation)

    with pytest.raises(Unavailable):
        run_dataset_job(Failing(padding_matters=True), target(out, part_format), files)
    made = {part: part.stat().st_mtime_ns for part in parts_in(out)}
    assert len(made) == 4
    assert not (out / "_dataset.json").exists()
    report = run_dataset_job(HashEncoder(padding_matters=True), target(out, part_format), files)
    assert stored(out) == in_one_process(tmp_path, files)
    assert (report.encoded + report.unchanged, report.bad_rows) == (2 * ROWS_A_FILE - 4, 4)
    assert report.unchanged == 4 * CONFIG.window_rows - 1
    after = {part: part.stat().st_mtime_ns for part in parts_in(out)}
    assert made.items() <= after.items()
    again = run_dataset_job(HashEncoder(padding_matters=True), target(out, part_format), files)
    assert again.encoded == 0
    assert {part: part.stat().st_mtime_ns for part in parts_in(out)} == after
    with pytest.raises(InvalidRequest, match=rf"is a dataset in {part_format}, not parquet: give another"):
        run_dataset_job(HashEncoder(), target(out), files)
    (out / "_dataset.json").write_text("")  # as after a loss of power
    assert run_dataset_job(HashEncoder(), target(out, part_format), files).encoded == 0


def test_lance_shows_a_dataset_when_it_is_whole_and_that_of_before_until_then(tmp_path: Path) -> None:
    files, out = write_files(tmp_path, 1), tmp_path / "out"
    run_dataset_job(HashEncoder(), target(out, "lance"), files)
    before = lance.dataset(str(out))
    assert before.schema.metadata[b"rankport.encoder"] == b"hash-encoder"
    assert set(before.to_table()["id"].to_pylist()) == set(stored(out))
    (tmp_path / "0.csv").write_text((tmp_path / "0.csv").read_text().replace("i0-5,", "other,"))
    seen: list[set[str]] = []

    def look(_: EncodeProgress) -> None:
        seen.append(set(lance.dataset(str(out)).to_table(columns=["id"])["id"].to_pylist()))

    run_dataset_job(HashEncoder(), target(out, "lance"), files, on_progress=look)
    assert all("other" not in ids and "i0-5" in ids for ids in seen)
    now = lance.dataset(str(out))
    assert set(now.to_table()["id"].to_pylist()) == set(stored(out))
    assert "other" in stored(out)
    fragments = {file.path for fragment in now.get_fragments() for file in fragment.metadata.files}
    assert fragments == {path.name for path in (out / "data").iterdir()}  # nothing of before is left


def test_a_dataset_in_lance_without_a_usable_row_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n,a\n")
    file = ItemsFile.open(tmp_path / "a.csv", FileColumns())
    report = run_dataset_job(HashEncoder(), target(tmp_path / "out", "lance"), [file])
    assert (report.rows_read, report.bad_rows) == (1, 1)
    assert lance.dataset(str(tmp_path / "out")).count_rows() == 0
    assert run_dataset_job(HashEncoder(), target(tmp_path / "out", "lance"), [file]).bad_rows == 1


def test_a_part_in_lance_whose_file_went_is_named_and_made_again(tmp_path: Path) -> None:
    files, out = write_files(tmp_path, 1), tmp_path / "out"
    run_dataset_job(HashEncoder(), target(out, "lance"), files)
    wanted, part = stored(out), parts_in(out)[0]
    note = json.loads(part.read_text())
    (out / "data" / note["fragment"]["files"][0]["path"]).unlink()
    with pytest.raises(StoreError, match=r"part-.* cannot be read: its file .* is not there"):
        read_part(part)
    assert run_dataset_job(HashEncoder(), target(out, "lance"), files).encoded == note["rows"]
    assert stored(out) == wanted
    part.write_text("{}")
    with pytest.raises(StoreError, match="no note of a fragment"):
        read_part(part)
    assert run_dataset_job(HashEncoder(), target(out, "lance"), files).encoded == note["rows"]
