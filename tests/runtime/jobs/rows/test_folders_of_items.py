"""Folders of items as other tools write them: what lies beside rows, tables, empty parts, columns left out."""

import bz2
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.runtime.jobs.config import FileColumns
from rankport.runtime.jobs.files.folders import partitions_of
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.jobs.rows.sources import ItemSources

COLUMNS = FileColumns()


def write(path: Path, *ids: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("id,text\n" + "".join(f"{id},text of {id}\n" for id in ids))
    return path


def rows(source: str | Path, columns: FileColumns = COLUMNS) -> list[ItemRow | BadRow]:
    return list(ItemSources.open([source], columns).rows())


def ids(found: Sequence[ItemRow | BadRow]) -> list[str | None]:
    return [row.id for row in found]


BESIDE = (
    "_temporary/0/part-0.csv",
    "a/.ipynb_checkpoints/part-0-checkpoint.csv",
    "._part-0.csv",
    "_day=1/.part-0.csv.swp.csv",
)


def test_what_tools_leave_beside_their_rows_is_left_out(tmp_path: Path) -> None:
    for name in BESIDE:
        write(tmp_path / name, "1", "old")
    write(tmp_path / "_day=1" / "part-0.csv", "1")
    write(tmp_path / "a" / "_day=2" / "part-0.csv", "2")
    url = f"file://{tmp_path}"
    for source in (tmp_path, tmp_path / "*", tmp_path / "**", tmp_path / "**/*.csv", url, f"{url}/**/*.csv"):
        assert ids(rows(source)) == ["1", "2"]
    for source in (tmp_path / "_temp*/**/*.csv", tmp_path / "_temporary", f"{url}/_temp*"):
        assert ids(rows(source)) == ["1", "old"]
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    assert ids(rows(tmp_path)) == ["1", "2"]
    elsewhere = write(tmp_path.with_name("elsewhere") / "a.csv", "3")
    (tmp_path / "b").symlink_to(elsewhere.parent)
    assert ids(rows(tmp_path)) == ["1", "2", "3"]
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotFound, match=r"no items file .*gone\.csv"):
        rows(tmp_path)


def test_parts_of_spark_are_read(tmp_path: Path) -> None:
    (tmp_path / "part-0.json").touch()  # of no rows
    (tmp_path / "part-1.json").write_text('{"id": 1, "text": "one"}\n')
    lines = replace(COLUMNS, file_format="jsonl")
    with pytest.raises(InvalidRequest, match=r"part-0\.json is empty, as if its writer had failed"):
        rows(tmp_path, columns=lines)
    (tmp_path / "_SUCCESS").touch()
    assert ids(rows(tmp_path, columns=lines)) == ids(rows(tmp_path / "*", columns=lines)) == ["1"]
    with pytest.raises(
        NotFound, match=r"no file of a format that its name tells: give their format \(--format\)"
    ):
        rows(tmp_path)
    assert ids(rows(f"file://{tmp_path}/part-1*", columns=lines)) == ["1"]
    write(tmp_path / "b.csv", "2")
    assert ids(rows(tmp_path, columns=replace(COLUMNS, file_format="csv"))) == ["2"]


@pytest.mark.parametrize(("name", "told"), [("day=2", True), ("_tmp", False), ("lost+found", False)])
def test_a_folder_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: bool
) -> None:
    write(tmp_path / "day=1" / "a.csv", "1")
    write(tmp_path / name / "a.csv", "2")
    url = f"file://{tmp_path}"
    patterns = ("**/*.csv", "*/*.csv", "*/a.csv", "[dl_]*/a*", "d*/../*/a.csv", "*/../day=2/a.csv")
    sources = (tmp_path, url, f"{url}/*/a.csv", *(tmp_path / pattern for pattern in patterns))

    def closed(look: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(path: Any, *args: Any, **named: Any) -> Any:
            below = (
                os.path.relpath(os.path.normpath(path), tmp_path).split(os.sep)
                if isinstance(path, str | Path)
                else []
            )
            if below[:1] == [name] and (look is not os.stat or len(below) > 1):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return look(path, *args, **named)

        return refuse

    for look in ("scandir", "listdir", "stat", "lstat"):  # root reads all
        monkeypatch.setattr(os, look, closed(getattr(os, look)))
    if told:
        for source in (*sources, tmp_path / name / "a.csv"):
            with pytest.raises(InvalidRequest, match=f"{name}.* cannot be read: Permission denied"):
                rows(source)
    else:
        for source in sources[:6]:
            assert ids(rows(source)) == ["1"]


@pytest.mark.parametrize(
    ("log", "kind"),
    [("_delta_log/0.json", "Delta"), (".hoodie/x", "Hudi"), ("metadata/v1.metadata.json", "Iceberg")],
)
def test_a_table_whose_log_says_which_files_count_is_refused(tmp_path: Path, log: str, kind: str) -> None:
    table = tmp_path / "lake" / "table"
    write(table / "data" / "a.csv", "1")
    (table / log).parent.mkdir()
    (table / log).touch()
    for source, told in ((tmp_path, table), (table, table), (f"file://{table}", f"file://{table}")):
        with pytest.raises(InvalidRequest, match=f"^{told} is a table of {kind}, whose log says"):
            rows(source)
    assert ids(rows(table / "**" / "*.csv")) == ["1"]


def test_files_in_a_folder_are_compressed_or_not(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "1")
    (tmp_path / "b.csv.bz2").write_bytes(bz2.compress(b"id,text\n2,two\n"))
    assert ids(rows(tmp_path)) == ["1", "2"]
    (tmp_path / "b.csv.bz2").rename(tmp_path / "b.bz2")
    assert ids(rows(tmp_path)) == ["1"]


def test_a_column_that_rows_of_jsonl_leave_out_is_found_wherever_it_comes(tmp_path: Path) -> None:
    lines = ['{"id": 1, "text": "one"}\n'] * 200
    path = tmp_path / "a.jsonl"
    columns = FileColumns(template="{text} {größe}")
    path.write_text("".join(lines) + '"größe"\n{"größe", \n{"id": 2, "text": {"größe": 1}}\n')
    with pytest.raises(InvalidRequest, match="no column 'größe'; its columns: id, text"):
        rows(path, columns=columns)
    for written in ("größe", "gr\\u00F6\\u00dfe"):
        path.write_text("".join(lines) + f'{{"id": 2, "text": "two", "{written}": 7}}\n')
        assert rows(path, columns=columns)[-2:] == [ItemRow(200, "1", "one"), ItemRow(201, "2", "two 7")]


PARTS = [
    {"text": ["one"], "note": [7], "id": pa.array([1], pa.int32())},
    {"id": pa.array(["2"]).dictionary_encode(), "text": ["two"]},
    {"id": [3], "text": ["three"], "more": pa.nulls(1), "note": [1]},
    {"id": [4], "more": ["x"], "text": ["four"]},
]


def write_parts(folder: Path, suffix: str) -> None:
    """Writes tables that got columns later, and whose writers chose types and orders of their own."""
    for number, columns in enumerate(PARTS):
        table, path = pa.table(columns), folder / f"{number}{suffix}"
        match suffix:
            case ".parquet":
                pq.write_table(table, path)
            case ".arrow":
                with pa.ipc.new_file(path, table.schema) as writer:
                    writer.write_table(table)
            case ".lance":
                lance.write_dataset(
                    table.cast(pa.schema([(n, pa.string()) for n in table.column_names])), path
                )


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".lance"])
def test_tables_may_lack_columns_that_another_has(tmp_path: Path, suffix: str) -> None:
    write_parts(tmp_path, suffix)
    two = replace(COLUMNS, text_columns=("text", "more"), deleted_column="gone")
    with pytest.raises(InvalidRequest, match="has no column 'gone', nor has another of 4 files"):
        rows(tmp_path, two)
    found = rows(tmp_path, replace(two, deleted_column=None))
    assert [(row.id, row.text) for row in found if isinstance(row, ItemRow)] == [
        ("1", "one"),
        ("2", "two"),
        ("3", "three"),
        ("4", "four x"),
    ]
    with pytest.raises(InvalidRequest, match=r"0\.\w+ has no column 'more'; its columns: text, note, id"):
        rows(tmp_path / f"0{suffix}", replace(two, deleted_column=None))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".arrow"])
def test_columns_that_folders_say_are_read(tmp_path: Path, suffix: str) -> None:
    folders = ("day=2026-01-01", "day=__HIVE_DEFAULT_PARTITION__", "lang=de/day=a%2Fb c", "_day=4/day=")
    for number, folder in enumerate(folders):
        path = tmp_path / folder / f"x{suffix}"
        path.parent.mkdir(parents=True)
        match suffix:
            case ".csv":
                path.write_text(f"id,text\n{number},t\n")
            case ".jsonl":
                path.write_text(f'{{"id": {number}, "text": "t"}}\n')
            case ".parquet":
                pq.write_table(pa.table({"id": [number], "text": ["t"]}), path)
            case _:
                with pa.ipc.new_file(path, pa.schema([("id", pa.int64()), ("text", pa.string())])) as writer:
                    writer.write_table(pa.table({"id": [number], "text": ["t"]}))
    wanted = {"0": "t|2026-01-01", "1": "t|", "2": "t|a/b c", "3": "t|"}
    columns = replace(COLUMNS, template="{text}|{day}")
    for source in (tmp_path, tmp_path / "**", f"file://{tmp_path}"):
        found = rows(source, columns)
        assert {row.id: row.text for row in found if isinstance(row, ItemRow)} == wanted
    one = tmp_path / folders[0]
    [row] = rows(one, replace(COLUMNS, id_column="day"))
    assert isinstance(row, ItemRow)
    assert (row.id, row.text) == ("2026-01-01", "t")
    with pytest.raises(
        InvalidRequest, match="of the columns that are read its rows have none, but its folders"
    ):
        rows(one, replace(COLUMNS, id_column="day", text_columns=("day",)))
    with pytest.raises(InvalidRequest, match=r"no column 'month'; its columns: id, text, day"):
        rows(one, replace(COLUMNS, id_column="month"))


def test_a_column_of_the_file_is_not_that_of_its_folders(tmp_path: Path) -> None:
    write(tmp_path / "text=other" / "a.csv", "1")
    [row] = rows(tmp_path)
    assert row == ItemRow(1 + 1, "1", "text of 1")
    assert partitions_of("https://host/a=1/b=2/a=3/c=4.csv?d=5/e=6") == (("a", "3"), ("b", "2"))


def test_a_file_of_jsonl_may_lack_columns_that_another_has(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "one"}\n')
    (tmp_path / "b.jsonl").write_text('{"id": 2, "text": "two", "more": "and more"}\n')
    columns = FileColumns(text_columns=("text", "more"))
    assert [row.text for row in rows(tmp_path, columns=columns) if isinstance(row, ItemRow)] == [
        "one",
        "two and more",
    ]
    assert [file.lacks for file in ItemSources.open([tmp_path], columns).files()] == [{"more"}, set()]
    for source, told in (
        (tmp_path, r"'titel', nor has another of 2 files"),
        (tmp_path / "a.jsonl", "'titel'; its"),
    ):
        with pytest.raises(InvalidRequest, match=rf"a\.jsonl has no column {told}"):
            rows(source, columns=FileColumns(template="{text} {titel}"))
    (tmp_path / "c.jsonl").write_text('{"key": 3, "text": "three"}\n')
    with pytest.raises(InvalidRequest, match=r"c\.jsonl has no column 'id'; its columns: key, text"):
        rows(tmp_path, columns=columns)
