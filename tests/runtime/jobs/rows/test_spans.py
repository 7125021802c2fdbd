"""Spans of a file: read apart they are the rows of the whole, wherever it is cut."""

import gzip
import json
from pathlib import Path

import lance
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.jobs.config import FileColumns
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.items_file import ItemsFile
from rankport.runtime.jobs.rows.records import WHOLE, BadRow

ROWS = 53


def write_jsonl(path: Path) -> None:
    """Rows, blank lines, a broken one and one that is too long."""
    lines = [json.dumps({"id": f"i{row}", "text": f"text {row}é"}) for row in range(ROWS - 2)]
    lines[5:5] = ["", "{broken", "   "]
    lines.insert(20, json.dumps({"id": "long", "text": "x" * 3000}))
    path.write_text("\n".join(lines))


def table() -> pa.Table:
    return pa.table(
        {"id": [f"i{row}" for row in range(ROWS)], "text": [f"text {row}" for row in range(ROWS)]}
    )


def write(path: Path) -> None:
    match path.name:
        case "a.jsonl":
            write_jsonl(path)
        case "a.parquet":
            pq.write_table(table(), path, row_group_size=10)
        case "file.arrow":
            with pa.ipc.new_file(path, table().schema) as writer:
                writer.write_table(table(), max_chunksize=7)
        case "stream.arrow":
            with pa.ipc.new_stream(path, table().schema) as writer:
                writer.write_table(table(), max_chunksize=7)
        case "a.lance":
            lance.write_dataset(table(), str(path), max_rows_per_file=11)


def opened(path: Path) -> ItemsFile:
    return ItemsFile.open(path, FileColumns(max_row_length=2000))


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "file.arrow", "stream.arrow", "a.lance"])
def test_spans_are_the_whole(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    file = opened(tmp_path / name)
    whole = list(file.rows())
    assert len(whole) == ROWS
    for size in (1, 7, 10, ROWS - 1, ROWS, ROWS + 1):
        spans = file.spans(size)
        assert [span.first for span in spans] == list(range(0, ROWS, size))
        parts = [list(file.rows(span, file.stamp())) for span in spans]
        assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
        assert [row for part in parts for row in part] == whole


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz"])
def test_a_file_in_which_nobody_can_begin_is_one_span(tmp_path: Path, name: str) -> None:
    if name == "a.csv":
        (tmp_path / name).write_text("id,text\na,b\nc,d\n")
    else:
        (tmp_path / name).write_bytes(gzip.compress(b'{"id": "a", "text": "b"}\n{"id": "c", "text": "d"}\n'))
    file = opened(tmp_path / name)
    assert file.spans(1) == (WHOLE,)
    assert [row.id for row in file.rows(WHOLE)] == ["a", "c"]


def test_a_file_that_was_changed_since_it_was_cut_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl")
    file = opened(tmp_path / "a.jsonl")
    stamp, spans = file.stamp(), file.spans(10)
    assert isinstance(next(file.rows(spans[1], stamp)), ItemRow | BadRow)
    with (tmp_path / "a.jsonl").open("a") as stream:
        stream.write("\n{}")
    with pytest.raises(InvalidRequest, match="was changed while it was read"):
        next(file.rows(spans[1], stamp))


def test_a_lance_dataset_with_deleted_rows_is_read_whole_and_in_order(tmp_path: Path) -> None:
    rows = 5000
    content = pa.table({"id": [f"id{row}" for row in range(rows)], "text": ["text"] * rows})
    dataset = lance.write_dataset(content, str(tmp_path / "a.lance"), max_rows_per_file=2300)
    dataset.delete("id in ('id0', 'id1030', 'id2299', 'id4999')")
    left = [f"id{row}" for row in range(rows) if row not in (0, 1030, 2299, 4999)]
    items = ItemsFile.open(tmp_path / "a.lance", FileColumns())
    assert [row.id for row in items.rows()] == left
    parts = [[row.id for row in items.rows(span)] for span in items.spans(1500)]
    assert [len(part) for part in parts] == [1500, 1500, 1500, 496]
    assert [id for part in parts for id in part] == left
