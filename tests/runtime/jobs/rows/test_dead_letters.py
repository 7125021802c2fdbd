"""Content of bad rows: what a letter needs to be mended and fed again, of every format and every reason."""

import json
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.jobs.config import FileColumns
from rankport.runtime.jobs.datasets.local_job import run_dataset_job
from rankport.runtime.jobs.encode_job import namespace_of, run_encode_job
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.items_file import ItemsFile
from rankport.runtime.jobs.rows.records import MAX_CONTENT, BadRow, content_of
from rankport.runtime.store.opening import open_store
from support.hash_encoder import HashEncoder
from support.jobs.dataset_jobs import target


def opened(path: Path, text_columns: Sequence[str] = ("text",), file_format: str | None = None) -> ItemsFile:
    return ItemsFile.open(path, FileColumns(text_columns=tuple(text_columns), file_format=file_format))


def contents(file: ItemsFile) -> list[object]:
    """Content of each bad row, None where it has none."""
    rows = [row for row in file.rows() if isinstance(row, BadRow)]
    return [json.loads(row.content) if row.content else None for row in rows]


def test_rows_of_csv_have_their_columns_or_their_fields(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,text,more\na,,1\n,b,2\nc,one,two,3\nd,\xff,4\n")
    assert contents(opened(tmp_path / "a.csv")) == [
        {"id": "a", "text": ""},
        {"id": "", "text": "b"},
        ["c", "one", "two", "3"],
        {"id": "d", "text": "\udcff"},
    ]


def test_lines_of_jsonl_that_are_no_objects_are_kept_as_they_are(tmp_path: Path) -> None:
    lines = ['{"id": "a", "text": "one"', "[1]", '{"id": true, "text": "two", "more": 1}', '{"id": "c"}']
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, '{"id": "d", "text": "good"}', ""]))
    assert contents(opened(tmp_path / "a.jsonl")) == [
        lines[0],
        "[1]",
        {"id": True, "text": "two"},
        {"id": "c", "text": None},
    ]


def test_a_row_over_the_limit_has_no_content(tmp_path: Path) -> None:
    room = MAX_CONTENT - len('{"id": "", "text": ""}')
    lines = [{"id": "", "text": "x" * room}, {"id": "", "text": "x" * (room + 1)}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert contents(opened(tmp_path / "a.jsonl")) == [lines[0], None]


def test_rows_of_parquet_have_the_texts_of_what_json_has_no_type_for(tmp_path: Path) -> None:
    columns = {
        "id": pa.array([Decimal("12.50"), Decimal("7.00")], pa.decimal128(6, 2)),
        "text": pa.array([None, "seven"]),
        "day": pa.array([date(2026, 1, 2), date(2026, 1, 3)]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    file = opened(tmp_path / "a.parquet", ("text", "day"))
    assert contents(file) == [
        {"id": "12.50", "text": None, "day": "2026-01-02"},
        {"id": "7.00", "text": "seven", "day": "2026-01-03"},
    ]


def test_numbers_that_json_has_not_are_texts(tmp_path: Path) -> None:
    columns = {"id": ["a", "b"], "text": [float("nan"), float("inf")]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert contents(opened(tmp_path / "a.parquet")) == [
        {"id": "a", "text": "NaN"},
        {"id": "b", "text": "Infinity"},
    ]
    nested = content_of({"text": "one", "more": [0.5, float("-inf")]})
    assert json.loads(nested) == {"text": "one", "more": [0.5, "-Infinity"]}


def write_letters(path: Path, rows: Sequence[BadRow]) -> None:
    letters = [{"line": row.line, "row": json.loads(row.content) if row.content else None} for row in rows]
    path.write_text("".join(json.dumps(letter) + "\n" for letter in letters))


def test_letters_that_are_mended_are_rows_again(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\na,malformed\na,twice\nb,\nc,good\nd,x,y\n")
    encoder, bad = HashEncoder(), list[BadRow]()
    with open_store(tmp_path / "store", create=True) as store:
        namespace = namespace_of(store, encoder)
        run_encode_job(encoder, namespace, opened(tmp_path / "a.csv").rows(), on_bad_row=bad.append)
        by_line = {row.line: json.loads(row.content) for row in bad}
        assert by_line == {
            2: {"id": "a", "text": "malformed"},
            3: {"id": "a", "text": "twice"},
            4: {"id": "b", "text": ""},
            6: ["d", "x", "y"],
        }
        letters = tmp_path / "letters.jsonl"
        write_letters(letters, sorted(bad, key=lambda row: row.line))
        mended = (
            letters.read_text().replace("malformed", "mended").replace('"b", "text": ""', '"b", "text": "b"')
        )
        letters.write_text(mended)
        file = opened(letters, file_format="dead-letters")
        assert list(file.rows()) == [
            ItemRow(1, "a", "mended"),
            ItemRow(2, "a", "twice"),
            ItemRow(3, "b", "b"),
            BadRow(4, "a dead letter whose row is no object: mend it"),
        ]
        report = run_encode_job(encoder, namespace, file.rows())
        assert (report.encoded, report.bad_rows) == (2, 2)
        assert set(namespace.keys()) == {"a", "b", "c"}


def test_a_letter_without_its_row_says_where_that_is(tmp_path: Path) -> None:
    letters = ['{"line": 7, "file": "a.csv", "row": null}', '{"line": 8, "row": {"id": "a", "text": "b"}}']
    (tmp_path / "letters").write_text("\n".join(letters) + "\n")
    bad, good = opened(tmp_path / "letters", file_format="dead-letters").rows()
    assert bad == BadRow(1, "a dead letter without its row, which was too long: look at file a.csv line 7")
    assert good == ItemRow(2, "a", "b")


def test_a_file_that_has_no_letters_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters").write_text('{"id": "a", "text": "b"}\n')
    with pytest.raises(InvalidRequest, match="no dead letter with a row that is an object in its first 100"):
        opened(tmp_path / "letters", file_format="dead-letters")


def test_bad_rows_of_a_dataset_have_their_content_each_time(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\na,malformed\nb,\nc,good\nc,twice\n")
    wanted = {
        2: {"id": "a", "text": "malformed"},
        3: {"id": "b", "text": ""},
        5: {"id": "c", "text": "twice"},
    }
    for encoded in (1, 0):
        bad: list[BadRow] = []
        report = run_dataset_job(
            HashEncoder(), target(tmp_path / "out"), [opened(tmp_path / "a.csv")], on_bad_row=bad.append
        )
        assert report.encoded == encoded
        assert {row.line: json.loads(row.content) for row in bad} == wanted
