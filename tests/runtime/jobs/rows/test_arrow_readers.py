"""Parquet: what becomes of a value of each type, and of values that have no text."""

import builtins
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow
import pytest
from pyarrow import feather, ipc, parquet

from rankport.protos.errors import InvalidRequest, MissingExtra
from rankport.runtime.jobs.config import FileColumns
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.items_file import ItemsFile
from rankport.runtime.jobs.rows.records import BadRow


def open_items(path: Path) -> ItemsFile:
    return ItemsFile.open(path, FileColumns())


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    table = pyarrow.table({"more": [1, 2, 3], "id": [7, 8, 9], "text": ["one", None, "three"]})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    file = open_items(tmp_path / "x.parquet")
    assert list(file.rows()) == [
        ItemRow(1, "7", "one"),
        BadRow(2, "no text in text", "8"),
        ItemRow(3, "9", "three"),
    ]
    assert file.count() == 3


@pytest.mark.parametrize("group_rows", [100, 6000])
def test_memory_does_not_grow_with_a_parquet_file(tmp_path: Path, group_rows: int) -> None:
    rows = 6000
    table = pyarrow.table({"id": range(rows), "text": [f"{row} {'x' * 2000}" for row in range(rows)]})
    options = {"compression": "none", "use_dictionary": False, "row_group_size": group_rows}
    parquet.write_table(table, tmp_path / "x.parquet", **options)
    file_bytes, before = table.nbytes, pyarrow.total_allocated_bytes()
    held = []
    for row in open_items(tmp_path / "x.parquet").rows():
        if row.line % 1000 == 1:
            held.append(pyarrow.total_allocated_bytes() - before)
    assert len(held) == 6
    assert max(held) < file_bytes / 3  # some pages of 1 MB


def test_a_page_that_its_checksum_does_not_fit_ends_the_reading(tmp_path: Path) -> None:
    table = pyarrow.table({"id": ["a", "b"], "text": ["a plain text", "another"]})
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    parquet.write_table(table, tmp_path / "x.parquet", write_statistics=False, **options)
    content = (tmp_path / "x.parquet").read_bytes()
    assert content.count(b"a plain text") == 1
    (tmp_path / "x.parquet").write_bytes(content.replace(b"a plain text", b"a plain test"))
    with pytest.raises(InvalidRequest, match=r"x\.parquet .*(CRC|checksum)"):
        list(open_items(tmp_path / "x.parquet").rows())


def test_parquet_bytes_are_read_as_utf8(tmp_path: Path) -> None:
    kind = pyarrow.binary()
    table = pyarrow.table({"id": ["a", "b"], "text": pyarrow.array(["é".encode(), b"\xff"], kind)})
    parquet.write_table(table, tmp_path / "x.parquet")
    good, bad = open_items(tmp_path / "x.parquet").rows()
    assert good == ItemRow(1, "a", "é")
    assert isinstance(bad, BadRow)
    assert bad.id == "b"
    assert "text is not valid UTF-8" in bad.reason


def test_parquet_strings_that_are_not_utf8_are_bad_rows(tmp_path: Path) -> None:
    raw = pyarrow.array([b"good", b"\xff"], pyarrow.binary())
    forged = pyarrow.Array.from_buffers(pyarrow.string(), 2, raw.buffers())
    parquet.write_table(pyarrow.table({"id": ["a", "b"], "text": forged}), tmp_path / "x.parquet")
    good, bad = open_items(tmp_path / "x.parquet").rows()
    assert good == ItemRow(1, "a", "good")
    assert isinstance(bad, BadRow)
    assert "not UTF-8" in bad.reason


UUID_TEXT = "0ed38662-9653-4ce9-809c-eefa7b92d857"
IDS = {
    "large string": (pyarrow.array(["a"], pyarrow.large_string()), "a"),
    "dictionary": (pyarrow.array(["a"]).dictionary_encode(), "a"),
    "dictionary of dates": (pyarrow.array([date(2024, 2, 29)]).dictionary_encode(), "2024-02-29"),
    "runs": (pyarrow.RunEndEncodedArray.from_arrays([1], pyarrow.array(["a"])), "a"),
    "uint64": (pyarrow.array([2**64 - 1], pyarrow.uint64()), "18446744073709551615"),
    "decimal": (pyarrow.array([Decimal("12.50")]), "12.50"),
    "wide decimal": (pyarrow.array([Decimal(10**30)], pyarrow.decimal256(40, 0)), "1" + "0" * 30),
    "uuid": (pyarrow.array([UUID(UUID_TEXT).bytes], pyarrow.uuid()), UUID_TEXT),
    "date": (pyarrow.array([date(2024, 2, 29)]), "2024-02-29"),
    "ns": (pyarrow.array([1], pyarrow.timestamp("ns")), "1970-01-01 00:00:00.000000001"),
    "ns, zone": (pyarrow.array([1], pyarrow.timestamp("ns", "UTC")), "1970-01-01 00:00:00.000000001Z"),
    "time": (pyarrow.array([1], pyarrow.time64("ns")), "00:00:00.000000001"),
}


@pytest.mark.parametrize("name", IDS)
def test_scalar_with_one_exact_text_is_an_id(tmp_path: Path, name: str) -> None:
    column, text = IDS[name]
    both = pyarrow.table({"id": column, "text": ["x"]})
    with pyarrow.ipc.new_file(tmp_path / "x.arrow", both.schema) as file:
        file.write_table(both)
    assert list(open_items(tmp_path / "x.arrow").rows()) == [ItemRow(1, text, "x")]
    if name != "runs":  # which Parquet has not
        parquet.write_table(both, tmp_path / "x.parquet")
        assert list(open_items(tmp_path / "x.parquet").rows()) == [ItemRow(1, text, "x")]


NO_IDS = {
    "null": (pyarrow.array([None], pyarrow.timestamp("ns")), "no id in id"),
    "date": (
        pyarrow.array([2**31 - 1], pyarrow.date32()),
        "id has a value of type date32[day] that cannot be",
    ),
    "moment": (
        pyarrow.array([2**62], pyarrow.timestamp("us")),
        "id has a value of type timestamp[us] that cannot",
    ),
}


@pytest.mark.parametrize("name", NO_IDS)
def test_value_that_is_no_id_is_one_bad_row_with_its_column_and_type(tmp_path: Path, name: str) -> None:
    column, problem = NO_IDS[name]
    both = pyarrow.table({"id": column, "text": ["x"]})
    parquet.write_table(both, tmp_path / "x.parquet")
    [bad] = open_items(tmp_path / "x.parquet").rows()
    assert isinstance(bad, BadRow)
    assert problem in bad.reason


COLUMNS = {
    "float": (pyarrow.array([1.5]), False),
    "bool": (pyarrow.array([True]), False),
    "duration": (pyarrow.array([1], pyarrow.duration("ms")), False),
    "list": (pyarrow.array([[1]]), True),
    "struct": (pyarrow.array([{"title": "x"}]), True),
    "map": (pyarrow.array([[("a", "x")]], pyarrow.map_(pyarrow.string(), pyarrow.string())), True),
}


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("name", COLUMNS)
def test_column_of_a_type_without_ids_or_texts_is_refused_at_the_start(
    tmp_path: Path, name: str, suffix: str
) -> None:
    column, no_text = COLUMNS[name]
    table, path = pyarrow.table({"id": column, "text": column, "key": ["a"]}), tmp_path / f"x.{suffix}"
    write = parquet.write_table if suffix == "parquet" else feather.write_feather
    write(table, path)
    told = rf"of type {str(column.type).partition('<')[0].partition('[')[0]}.*, of which no value is"
    with pytest.raises(InvalidRequest, match=rf"x\.{suffix} has column 'id' {told} an id: name another"):
        ItemsFile.open(path, FileColumns(text_columns=("key",)))
    if no_text:
        with pytest.raises(InvalidRequest, match=rf"column 'text' {told} a text"):
            ItemsFile.open(path, FileColumns(id_column="key"))
    else:
        [row] = ItemsFile.open(path, FileColumns(id_column="key")).rows()
        assert isinstance(row, BadRow)


def test_moment_in_a_text_column_is_a_bad_row(tmp_path: Path) -> None:
    table = pyarrow.table({"id": ["a"], "text": pyarrow.array([1], pyarrow.timestamp("ns"))})
    parquet.write_table(table, tmp_path / "x.parquet")
    assert list(open_items(tmp_path / "x.parquet").rows()) == [
        BadRow(1, "text is of type timestamp[ns], not text", "a")
    ]


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pyarrow(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(name=name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    path = tmp_path / "x.parquet"
    path.touch()
    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    told = r'reading .*x.parquet needs pyarrow, .*: pip install "rankport\[parquet\]"'
    with pytest.raises(MissingExtra, match=told):
        open_items(path)


@pytest.mark.parametrize("new", [ipc.new_file, ipc.new_stream])
def test_compressed_columns_that_nobody_reads_stay_compressed(
    tmp_path: Path, new: Callable[..., Any]
) -> None:
    table = pyarrow.table({"image": [b"x" * 2**22], "id": ["a"], "text": ["b"]})
    with new(tmp_path / "x.arrow", table.schema, options=ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    del table
    before = pyarrow.total_allocated_bytes()
    rows = open_items(tmp_path / "x.arrow").rows()
    assert next(rows) == ItemRow(1, "a", "b")
    assert pyarrow.total_allocated_bytes() - before < 2**20


@pytest.mark.parametrize("write", [ipc.new_file, ipc.new_stream])
def test_columns_of_one_name_that_nobody_reads_are_passed_over(tmp_path: Path, write: Any) -> None:
    columns = [pyarrow.array([1, 2]), pyarrow.array([3, 4]), pyarrow.array(["a", "b"])]
    table = pyarrow.table([*columns, pyarrow.array(["red", "blue"])], names=["n", "n", "id", "text"])
    with write(str(tmp_path / "x.arrow"), table.schema) as writer:
        writer.write_table(table)
    file = open_items(tmp_path / "x.arrow")
    assert (file.count(), list(file.rows())) == (2, [ItemRow(1, "a", "red"), ItemRow(2, "b", "blue")])
