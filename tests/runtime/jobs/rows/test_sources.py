"""`ItemSources`: files, folders, patterns, URLs and shards."""

import gzip
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.runtime.jobs.config import FileColumns
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.jobs.rows.sources import ItemSources, Shard

COLUMNS = FileColumns()
GZIP = gzip.compress(b"id,text\n" + b"".join(b"%d,text\n" % number for number in range(1000)), mtime=0)


def write(path: Path, *ids: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("id,text\n" + "".join(f"{id},text of {id}\n" for id in ids))
    return path


def rows(*sources: str | Path, columns: FileColumns = COLUMNS) -> list[ItemRow | BadRow]:
    return list(ItemSources.open(sources, columns).rows())


def ids(found: Sequence[ItemRow | BadRow]) -> list[str | None]:
    return [row.id for row in found]


def test_several_files_are_read_in_their_order_and_rows_say_which(tmp_path: Path) -> None:
    first, second = write(tmp_path / "b.csv", "1", "2"), write(tmp_path / "a.csv", "3", "")
    assert rows(first, second, first) == [
        ItemRow(2, "1", "text of 1", file=str(first)),
        ItemRow(3, "2", "text of 2", file=str(first)),
        ItemRow(2, "3", "text of 3", file=str(second)),
        BadRow(3, "no id in id", None, str(second)),
    ]
    assert rows(first)[0] == ItemRow(2, "1", "text of 1")


def test_folders_and_patterns_are_their_files_by_name(tmp_path: Path) -> None:
    write(tmp_path / "b" / "1.csv", "3")
    write(tmp_path / "a.csv", "1")
    write(tmp_path / "b" / "0.csv", "2")
    (tmp_path / "b" / "_SUCCESS").touch()
    (tmp_path / "c.jsonl").write_text('{"id": 4, "text": "four"}\n')
    assert ids(rows(tmp_path)) == ["1", "2", "3", "4"]
    assert ids(rows(str(tmp_path / "**" / "*.csv"))) == ["1", "2", "3"]
    assert ids(rows(str(tmp_path / "?.csv"), tmp_path / "c.jsonl")) == ["1", "4"]
    assert ItemSources.open([tmp_path], COLUMNS).count() == 4


def test_what_a_url_stands_for_is_read(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe(
        {"/items/a.csv": b"id,text\n1,one\n", "/items/b.csv": b"id,text\n2,two\n", "/items/note": b"x"}
    )
    assert ids(rows("memory://items/b.csv")) == ["2"]
    assert ids(rows("memory://items")) == ["1", "2"]
    assert ids(rows("memory://items/*.csv", write(tmp_path / "c.csv", "3"))) == ["1", "2", "3"]
    with pytest.raises(NotFound, match=r"no items file memory://items/none\.csv"):
        rows("memory://items/none.csv")
    with pytest.raises(NotFound, match=r"no items at memory://none/\*"):
        rows("memory://none/*")
    with pytest.raises(InvalidRequest, match="nope://x"):
        rows("nope://x/y.csv")


def test_a_url_is_told_in_the_place_of_its_copy() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/bad/a.csv": "id,text\n1,eins\n".encode("utf-16"), "/bad/b.csv": b'id,text\n1,"one\n'})
    memory.pipe({"/bad/c.parquet": b"PAR1", "/bad/d.csv": b"key,text\n1,one\n", "/bad/e.csv.gz": GZIP[:-9]})
    for name, says in {
        "a.csv": r"is in UTF-16, and UTF-8 is needed: convert it \(iconv -f UTF-16 -t UTF-8 a\.csv > utf8-a\.csv",
        "b.csv": ": the quote that line 2 opens is never closed",
        "c.parquet": " cannot be read as Parquet",
        "d.csv": " has no column 'id'; its columns: key, text",
        "e.csv.gz": " breaks off after row 1001",
    }.items():
        with pytest.raises(
            InvalidRequest, match=f"^memory://bad/{re.escape(name)}{'' if says[0] in ' :' else ' '}{says}"
        ):
            rows(f"memory://bad/{name}")


class Unreachable(MemoryFileSystem):
    """Files of a service whose library raises errors of its own."""

    protocol = "unreachable"

    def isdir(self, path: str) -> bool:
        raise RuntimeError("no credentials\n  were found")


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files of memory://two, a.csv and b.csv, that were copied from there, into the test's folder."""
    names, get_file = list[str](), MemoryFileSystem.get_file

    def counted(files: MemoryFileSystem, path: str, copy: str) -> None:
        names.append(Path(path).name)
        get_file(files, path, copy)

    fsspec.filesystem("memory").pipe(
        {f"/two/{name}.csv": b"id,text\n%b,x\n" % name.encode() for name in "ab"}
    )
    monkeypatch.setattr(MemoryFileSystem, "get_file", counted)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return names


def test_each_file_behind_a_url_is_fetched_once_and_none_stays(fetched: list[str], tmp_path: Path) -> None:
    with ItemSources.open(["memory://two"], COLUMNS) as sources:
        assert (fetched, len(list(tmp_path.iterdir()))) == (["a.csv"], 1)
        assert ids(list(sources.rows())) == ["a", "b"]
        assert fetched == ["a.csv", "b.csv"]
        assert not list(tmp_path.iterdir())


def test_a_copy_that_nobody_reads_goes_with_its_sources(fetched: list[str], tmp_path: Path) -> None:
    with ItemSources.open(["memory://two"], COLUMNS):
        pass
    with pytest.raises(InvalidRequest, match="no column 'title'"):
        ItemSources.open(["memory://two"], FileColumns(text_columns=("title",)))
    assert fetched == ["a.csv", "a.csv"]
    assert not list(tmp_path.iterdir())


def test_whatever_keeps_a_url_from_being_read_is_told_in_a_line() -> None:
    fsspec.register_implementation("unreachable", Unreachable, clobber=True)
    with pytest.raises(InvalidRequest) as caught:
        rows("unreachable://bucket/a.csv")
    assert str(caught.value) == (
        "unreachable://bucket/a.csv cannot be read: RuntimeError: no credentials were found"
    )
    assert isinstance(caught.value.__cause__, OSError)  # no fault of what was asked, a command says


@pytest.mark.parametrize("name", ["[1].csv", "a?.csv", "b*.csv"])
def test_a_file_behind_a_url_may_have_the_name_of_a_pattern(name: str) -> None:
    fsspec.filesystem("memory").pipe(
        {f"/odd/{name}": b"id,text\n1,one\n", "/odd/ab.csv": b"id,text\n2,two\n"}
    )
    assert ids(rows(f"memory://odd/{name}")) == ["1"]


class Signed(AbstractFileSystem):
    """Files of a web server, whose names have a query behind them."""

    protocol = "https"

    def info(self, path: str, **options: object) -> dict[str, object]:
        return {"name": path, "size": None, "type": "file"}

    def get_file(self, path: str, copy: str) -> None:
        assert path.endswith("a.csv?signature=" + "x" * 400)
        Path(copy).write_bytes(b"id,text\n1,one\n")


def test_a_signature_behind_a_url_says_nothing_of_its_format() -> None:
    fsspec.register_implementation("https", Signed, clobber=True)
    assert ids(rows(f"https://host/a.csv?signature={'x' * 400}")) == ["1"]


def test_what_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in ("none.csv", "*.csv", "empty"):
        with pytest.raises(NotFound, match="no items"):
            rows(tmp_path / source)
    with pytest.raises(InvalidRequest, match="name at least one file"):
        rows()
    good, other = write(tmp_path / "a.csv", "1"), tmp_path / "b.csv"
    other.write_text("key,text\n1,one\n")
    with pytest.raises(InvalidRequest, match=r"b\.csv has no column 'id'; its columns: key, text"):
        rows(good, other)


def test_shards_have_every_row_once_however_files_are_cut(tmp_path: Path) -> None:
    names = [f"i{number}" for number in range(200)]
    whole = write(tmp_path / "whole.csv", *names, "", "")
    write(tmp_path / "cut" / "a.csv", *names[50:])
    write(tmp_path / "cut" / "b.csv", *names[:50])
    taken = [rows(whole, columns=replace(COLUMNS, shard=f"{index}/3")) for index in (1, 2, 3)]
    assert sorted(row.line for shard in taken for row in shard) == list(range(2, 204))
    assert all(40 < len(shard) < 100 for shard in taken)
    for index, shard in enumerate(taken, 1):
        cut = rows(tmp_path / "cut", columns=replace(COLUMNS, shard=f"{index}/3"))
        assert sorted(ids(cut), key=str) == sorted((id for id in ids(shard) if id), key=str)
    assert Shard.parse("1/3").has_key("i0") != Shard.parse("2/3").has_key("i0") or Shard.parse("3/3").has_key(
        "i0"
    )


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "1/", "a/b", "1/2/3", "-1/3", " 1/3"])
def test_what_is_no_shard_is_refused(tmp_path: Path, shard: str) -> None:
    with pytest.raises(InvalidRequest, match="give I/N, as 3/16"):
        rows(write(tmp_path / "a.csv", "1"), columns=replace(COLUMNS, shard=shard))


def test_files_of_a_dataset_are_here_and_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1")
    fsspec.filesystem("memory").pipe({"/whole/a.csv": b"id,text\n1,one\n"})
    assert [file.path for file in ItemSources.open([path], COLUMNS).files()] == [path]
    with pytest.raises(
        InvalidRequest, match=r"a dataset has all rows of its files: leave shard \(--shard\) out"
    ):
        ItemSources.open([path], replace(COLUMNS, shard="1/2")).files()
    with pytest.raises(
        InvalidRequest, match=r"^memory://whole/a\.csv: a dataset is made of files in folders"
    ):
        ItemSources.find([path, "memory://whole/a.csv"], COLUMNS).files()


def test_a_template_and_a_column_of_what_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "id,title,more,gone\n1,One,first of all,\n2,Two,,TRUE\n3,Three,,maybe\n4,,,0\n5,Five,x,false\n"
    )
    columns = FileColumns(template="{title}: {more:5}", deleted_column="gone")
    assert rows(path, columns=columns) == [
        ItemRow(2, "1", "One: first"),
        ItemRow(3, "2", "", deleted=True),
        BadRow(4, "gone is 'maybe', and must say true or false", "3"),
        BadRow(5, "no text in title, more", "4"),
        ItemRow(6, "5", "Five: x"),
    ]
    with pytest.raises(InvalidRequest, match="no column 'titel'; its columns: id, title, more, gone"):
        rows(path, columns=FileColumns(template="{titel}"))


def test_a_template_takes_numbers_as_their_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "title": "One", "year": 1999, "rank": 1.5}\n')
    assert rows(tmp_path / "a.jsonl", columns=FileColumns(template="{title} ({year})"))[0] == ItemRow(
        1, "1", "One (1999)"
    )
    assert rows(tmp_path / "a.jsonl", columns=FileColumns(template="{title} {rank}"))[0] == BadRow(
        1, "rank is of type float, not text", "1"
    )


def test_arrow_files_and_streams_are_read(tmp_path: Path) -> None:
    table = pa.table({"id": [7, 8, None], "text": ["seven", "eight", "nine"], "gone": [False, True, None]})
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=2)
    with pa.ipc.new_stream(tmp_path / "a.arrows", table.schema) as stream:
        stream.write_table(table)
    expected = [ItemRow(1, "7", "seven"), ItemRow(2, "8", "", deleted=True), BadRow(3, "no id in id", None)]
    columns = FileColumns(deleted_column="gone")
    for name in ("a.arrow", "a.arrows"):
        assert rows(tmp_path / name, columns=columns) == expected
        assert ItemSources.open([tmp_path / name], columns).count() == 3
    (tmp_path / "bad.arrow").write_bytes((tmp_path / "a.arrow").read_bytes()[:200])
    with pytest.raises(InvalidRequest, match=r"bad\.arrow cannot be read as Arrow"):
        rows(tmp_path / "bad.arrow")


def test_lance_datasets_are_read(tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    table = pa.table({"id": [7, 8], "text": ["seven", "eight"]})
    lance.write_dataset(table, str(tmp_path / "a.lance"))
    assert rows(tmp_path / "a.lance") == [ItemRow(1, "7", "seven"), ItemRow(2, "8", "eight")]
    assert ItemSources.open([tmp_path / "a.lance"], COLUMNS).count() == 2
    assert ids(rows(tmp_path)) == ids(rows(tmp_path / "*.lance")) == ["7", "8"]
    with pytest.raises(
        InvalidRequest, match=r"a\.lance: datasets of Lance are read from folders that are here"
    ):
        rows(f"file://{tmp_path}")
    (tmp_path / "b.lance").mkdir()
    with pytest.raises(InvalidRequest, match=r"b\.lance cannot be read as Lance"):
        rows(tmp_path / "b.lance")
