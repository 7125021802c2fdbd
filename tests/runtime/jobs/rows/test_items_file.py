import csv
import gzip
import importlib
import io
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.runtime.jobs.config import FileColumns
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.items_file import ItemsFile
from rankport.runtime.jobs.rows.records import BadRow
from support.effort import scale

Write = Callable[[str, bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def open_items(path: Path, *, text: Sequence[str] = ("text",), **options: Any) -> ItemsFile:
    return ItemsFile.open(path, FileColumns(text_columns=tuple(text), **options))


def rows_of(path: Path, *, text: Sequence[str] = ("text",), separator: str = " ") -> list[ItemRow | BadRow]:
    return list(open_items(path, text=text, separator=separator).rows())


CSV = b"id,text\na,one\nb,two\n"
JSONL = b'{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n'


def packed(kind: str, content: bytes) -> bytes:
    """Compresses in a stream of its own."""
    if kind in ("gzip", "bz2", "lzma"):
        return bytes(importlib.import_module(kind).compress(content))
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, kind) as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACKERS = ("gzip", "bz2", "lzma", "zstd", "lz4")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", CSV),
        # Named, as what gzip makes has the time in it: no two workers would collect the same tests.
        *(pytest.param("x.csv", packed(kind, CSV[:9]) + packed(kind, CSV[9:]), id=kind) for kind in PACKERS),
        ("x.csv.xz", packed("lzma", CSV[:9]) + bytes(8) + packed("lzma", CSV[9:]) + bytes(4)),
        ("x.csv.bz2", packed("bz2", b"") + packed("bz2", CSV)),
        ("x.CSV", CSV),
        ("x.csv.gz", gzip.compress(CSV, mtime=0)),
        ("x.csv", gzip.compress(CSV, mtime=0)),  # the content tells compression, not the name
        ("x.csv.gz", CSV),
        ("x.csv", b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n")),
        ("x.csv", CSV.rstrip()),
        ("x.jsonl", JSONL),
        ("x.ndjson", JSONL),
        ("x.jsonl.gz", gzip.compress(JSONL, mtime=0)),
        ("x.jsonl", b"\xef\xbb\xbf" + JSONL.replace(b"\n", b"\r\n")),
    ],
)
def test_formats_give_the_same_rows(write: Write, name: str, content: bytes) -> None:
    file = open_items(write(name, content))
    rows = list(file.rows())
    assert [(row.id, row.text) for row in rows if isinstance(row, ItemRow)] == [("a", "one"), ("b", "two")]
    assert len(rows) == file.count() == 2
    assert rows == list(file.rows())


def test_format_may_be_named_where_the_file_name_does_not_tell(write: Write) -> None:
    path = write("items.txt", JSONL)
    with pytest.raises(
        InvalidRequest, match=r"no format; give it with file_format \(--format\), one of csv, jsonl"
    ):
        open_items(path)
    assert len(list(open_items(path, file_format="jsonl").rows())) == 2
    with pytest.raises(InvalidRequest, match="unknown format 'xml'; there are csv, jsonl, parquet"):
        open_items(path, file_format="xml")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nothing\.csv"):
        open_items(tmp_path / "nothing.csv")


def test_a_folder_is_told_from_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"is a folder: give a file$"):
        ItemsFile.open(tmp_path, FileColumns())


@pytest.mark.parametrize(("name", "content"), [("x.csv", CSV), ("x.jsonl", JSONL)])
def test_missing_column_is_an_error_at_once_that_lists_the_columns(
    write: Write, name: str, content: bytes
) -> None:
    with pytest.raises(InvalidRequest, match="no column 'title'; its columns: id, text"):
        open_items(write(name, content), text=["text", "title"])


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_columns_that_no_commas_part_are_told(write: Write, mark: str) -> None:
    with pytest.raises(InvalidRequest, match="between columns: put commas there"):
        open_items(write("x.csv", f"id{mark}text\na{mark}b\n".encode()))


def test_column_that_is_there_twice_is_refused(write: Write) -> None:
    with pytest.raises(InvalidRequest, match="2 columns 'text'"):
        open_items(write("x.csv", b"id,text,text\n"))


def test_jsonl_column_may_be_left_out_of_the_first_rows(write: Write) -> None:
    content = b'{"id": "a", "text": "one"}\n{"id": "b", "text": "two", "more": "three"}\n'
    rows = rows_of(write("x.jsonl", content), text=["text", "more"], separator=" | ")
    assert rows == [ItemRow(1, "a", "one"), ItemRow(2, "b", "two | three")]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.csv", b"", r"x\.csv is empty, .*: leave it out"),
        ("x.jsonl", b"", r"x\.jsonl is empty, .*: leave it out"),
        ("x.jsonl.gz", gzip.compress(b"", mtime=0), "is empty, .*: leave it out"),
        ("x.csv", b"\n\n", "no header line"),
        ("x.csv", b'"id', "broken CSV"),
        ("x.jsonl", b"\n", "no JSON object"),
        ("x.jsonl", b"[]\n3\n", "no JSON object"),
        ("x.parquet", b"PAR1 not really PAR1", "cannot be read as Parquet"),
        ("x.csv.gz", b"\x1f\x8bnonsense", "cannot be read"),
    ],
)
def test_file_that_is_not_of_its_format_is_an_error_at_once(
    write: Write, name: str, content: bytes, problem: str
) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        open_items(write(name, content))


def test_text_columns_that_are_blank_are_left_out_of_the_join(write: Write) -> None:
    content = b"id,title,text\na,one,two\nb,,two\nc,one, \nd,,\n"
    rows = rows_of(write("x.csv", content), text=["title", "text"], separator=": ")
    assert rows == [
        ItemRow(2, "a", "one: two"),
        ItemRow(3, "b", "two"),
        ItemRow(4, "c", "one"),
        BadRow(5, "no text in title, text", "d"),
    ]


CSV_BAD = {
    b",text": "no id in id",
    b"  ,text": "no id in id",
    b"x": "1 field where the header has 2",
    b"x,y,z": "3 fields where the header has 2",
    b"x,": "no text in text",
    b"x,\xff\xfe": "text is not valid UTF-8",
    b"\xff,text": "id is not valid UTF-8",
    b"k" * 65_536 + b",text": "id has 65536 bytes, the limit is 65535",
    b"x,"
    + b"y" * 200_000: "over 150000 characters: shorten it, or raise max_row_length (--max-row-length of "
    "encode, and of audit membership) to read it",
    b'x,"' + b'y,""\nz,nothing\n' * 20_000 + b'"': "over 150000 characters",
}


@pytest.mark.parametrize("bad", CSV_BAD, ids=range(len(CSV_BAD)))
def test_bad_csv_row_is_told_and_passed_over(write: Write, bad: bytes) -> None:
    path = write("x.csv", b'id,text\na,"o\nne"\n' + bad + b"\nb,two\n")
    before, found, after = open_items(path, max_row_length=150_000).rows()
    assert before == ItemRow(2, "a", "o\nne")
    assert isinstance(found, BadRow)
    assert found.line == 4
    assert CSV_BAD[bad] in found.reason
    assert after == ItemRow(5 + bad.count(b"\n"), "b", "two")


JSON_BAD = {
    b"{": "broken JSON",
    b"not json": "broken JSON",
    b"[" * 100_000: "broken JSON",
    b'{"id": "a", "text": "b", "text": "c"}': "broken JSON: key 'text' is given twice in one object",
    b'{"id": ' + b"9" * 5000 + b"}": "broken JSON",
    b"[1]": "a JSON array where an object is needed",
    b"null": "a JSON null where an object is needed",
    b"1.5": "a JSON number where an object is needed",
    b'"x"': "a JSON string where an object is needed",
    b"true": "a JSON boolean where an object is needed",
    b'{"id": "x", "text": "\xff"}': "bytes that are not UTF-8",
    b'{"id": "x", "text": "\\ud800"}': "text is not valid UTF-8",
    b'{"text": "y"}': "no id in id",
    b'{"id": null, "text": "y"}': "no id in id",
    b'{"id": "", "text": "y"}': "no id in id",
    b'{"id": true, "text": "y"}': "id is of type bool, not text",
    b'{"id": 1.5, "text": "y"}': "id is of type float, not text",
    b'{"id": "x"}': "no text in text",
    b'{"id": "x", "text": null}': "no text in text",
    b'{"id": "x", "text": ["y"]}': "text is of type list, not text",
}


@pytest.mark.parametrize("bad", JSON_BAD, ids=range(len(JSON_BAD)))
def test_bad_jsonl_row_is_told_and_passed_over(write: Write, bad: bytes) -> None:
    content = b'{"id": "a", "text": "one"}\n\n' + bad + b'\n{"id": 5, "text": "two"}'
    before, found, after = rows_of(write("x.jsonl", content))
    assert before == ItemRow(1, "a", "one")
    assert isinstance(found, BadRow)
    assert found.line == 3
    assert JSON_BAD[bad] in found.reason
    assert after == ItemRow(4, "5", "two")


@pytest.mark.parametrize("mark", ["utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(("name", "content"), [("x.csv", CSV), ("x.jsonl", JSONL)])
def test_other_encodings_are_told_with_the_way_to_convert(
    write: Write, name: str, content: bytes, mark: str
) -> None:
    known = mark[:6].upper()
    path = write(name, content.decode().encode(mark))
    with pytest.raises(InvalidRequest, match=rf"in {known}.*UTF-8 is needed: convert it \(iconv -f {known}"):
        open_items(path)


@pytest.mark.parametrize("change", ["other content", "appended", "replaced", "gone"])
def test_file_that_changes_while_it_is_read_is_an_error(write: Write, change: str) -> None:
    path = write("x.csv", CSV)
    rows = open_items(path).rows()
    assert next(rows) == ItemRow(2, "a", "one")
    match change:
        case "other content":
            path.write_bytes(CSV.replace(b"two", b"three"))
        case "appended":
            path.write_bytes(CSV + b"c,three\n")
        case "replaced":
            os.replace(write("other.csv", CSV), path)
        case "gone":
            path.unlink()
    with pytest.raises(InvalidRequest, match=r"x\.csv (was changed while it was read|breaks off)"):
        list(rows)


def test_column_that_goes_between_opening_and_reading_is_an_error(write: Write) -> None:
    file = open_items(write("x.csv", CSV))
    write("x.csv", b"id,title\na,one\n")
    with pytest.raises(InvalidRequest, match="changed since it was opened: no column 'text'"):
        list(file.rows())


def test_long_line_of_json_is_one_bad_row(write: Write) -> None:
    long = b'{"id": "b", "text": "' + b"x" * 1000 + b'"}\n'
    path = write("x.jsonl", JSONL.splitlines(keepends=True)[0] + long + long[:-1])
    rows = list(open_items(path, max_row_length=500).rows())
    assert [(row.line, type(row)) for row in rows] == [(1, ItemRow), (2, BadRow), (3, BadRow)]
    assert isinstance(rows[1], BadRow)
    assert "over 500 bytes: shorten it, or raise max_row_length" in rows[1].reason
    assert len([row for row in open_items(path, max_row_length=1024).rows() if isinstance(row, ItemRow)]) == 3


def test_row_length_has_a_range(write: Write) -> None:
    with pytest.raises(InvalidRequest, match="max_row_length is 0"):
        FileColumns(max_row_length=0)


def test_known_id_of_a_bad_row_is_told(write: Write) -> None:
    [row] = rows_of(write("x.jsonl", b'{"id": "x", "text": 3}'))
    assert row == BadRow(1, "text is of type int, not text", "x")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PAR1\x15\x04", "it is Parquet: name it so, or give its format"),
        (b"ARROW1\x00\x00", "it is Arrow: name it so"),
        (b"PK\x03\x04\x14\x00", "it is a zip archive: unpack it first"),
    ],
)
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_what_is_no_text_is_told_by_what_it_is(write: Write, name: str, content: bytes, what: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"{re.escape(name)} is no text, {what}"):
        open_items(write(name, content + b"\n" + content))


def test_text_that_is_compressed_twice_is_told(write: Write) -> None:
    path = write("x.csv.zst.gz", packed("gzip", packed("zstd", CSV)))
    with pytest.raises(InvalidRequest, match="compressed more than once, by zstd within: unpack it first"):
        open_items(path)


def test_gzip_that_breaks_off_is_an_error_that_names_the_last_row(write: Write) -> None:
    lines = b"".join(b'{"id": "%d", "text": "%d"}\n' % (n, n * 7919) for n in range(20_000))
    whole = gzip.compress(lines)
    file = open_items(write("x.jsonl.gz", whole[: len(whole) // 2]))
    assert file.count() is None
    rows = file.rows()
    assert next(rows) == ItemRow(1, "0", "0")
    with pytest.raises(InvalidRequest, match=r"x\.jsonl\.gz breaks off after row \d\d+"):
        list(rows)


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        *((kind, damage) for kind in PACKERS for damage in ("cut", "followed by other bytes")),
        # Checksums of zstd and lz4 are an option of who compresses.
        *((kind, "with a bit that flipped") for kind in ("gzip", "bz2", "lzma")),
    ],
)
def test_compressed_text_that_is_damaged_is_no_shorter_text(write: Write, kind: str, damage: str) -> None:
    lines = b"".join(b'{"id": "%d", "text": "%d"}\n' % (n, n * 7919) for n in range(1_000))
    whole = packed(kind, lines)
    middle = len(whole) // 2
    damaged = {
        "cut": whole[:middle],
        "followed by other bytes": whole + b"other bytes",
        "with a bit that flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
    }
    with pytest.raises(InvalidRequest, match=r"breaks off after row|cannot be read"):
        list(open_items(write("x.jsonl", damaged[damage])).rows())


TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


@settings(max_examples=scale(60))
@given(st.lists(st.tuples(TEXT, TEXT), max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_whatever_the_csv_module_writes_is_read_back(
    write: Write, rows: list[tuple[str, str]], line_end: str
) -> None:
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator=line_end).writerows([("id", "text"), *rows])
    read = rows_of(write("x.csv", stream.getvalue().encode()))
    assert len(read) == len(rows)
    for (item_id, text), row in zip(rows, read, strict=True):
        if item_id.strip() and text.strip():
            assert isinstance(row, ItemRow)
            assert (row.id, row.text) == (item_id, text)
        else:
            assert isinstance(row, BadRow)


@settings(max_examples=scale(60))
@given(st.lists(st.tuples(TEXT, TEXT), max_size=8))
def test_whatever_the_json_module_writes_is_read_back(write: Write, rows: list[tuple[str, str]]) -> None:
    lines = [json.dumps({"id": item_id, "text": text}) for item_id, text in [("i", "t"), *rows]]
    read = rows_of(write("x.jsonl", "\n".join(lines).encode()))
    usable = [(row.id, row.text) for row in read if isinstance(row, ItemRow)]
    assert usable == [("i", "t"), *[row for row in rows if row[0].strip() and row[1].strip()]]
    assert len(read) == len(lines)


@settings(max_examples=scale(100))
@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\x1f", b"")), max_size=12))
def test_no_garbage_ends_the_reading(write: Write, garbage: list[bytes]) -> None:
    body = b"\n".join(garbage)
    rows = open_items(write("x.csv", b"id,text\nfirst,row\n" + body)).rows()
    assert next(rows) == ItemRow(2, "first", "row")
    with suppress(InvalidRequest):
        list(rows)
    last = b'\n{"id": "last", "text": "row"}'
    found = rows_of(write("x.jsonl", b'{"id": "first", "text": "row"}\n' + body + last))
    assert isinstance(found[-1], ItemRow)
    assert found[-1].id == "last"
