"""Records of CSV: those of the csv module as far as quotes are clear, and nothing from inside a quote."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import InvalidRequest
from rankport.runtime.jobs.config import FileColumns
from rankport.runtime.jobs.rows.csv_records import BrokenQuotingError, CsvRecords
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.items_file import ItemsFile
from support.effort import scale

MANY = 10**9


def records_of(
    text: str, max_chars: int = MANY, chunk_chars: int = 2**16
) -> tuple[list[list[str] | None], str]:
    """Reads the records, and what ended them."""
    read: list[list[str] | None] = []
    try:
        for record in CsvRecords(io.StringIO(text, newline=""), max_chars, chunk_chars):
            read.append(record.fields)
    except BrokenQuotingError as error:
        return read, str(error)
    return read, ""


def judged(text: str) -> tuple[list[list[str]], bool]:
    """Reads with the csv module up to its first error; says whether there was one."""
    read: list[list[str]] = []
    try:
        for fields in csv.reader(io.StringIO(text, newline=""), strict=True):
            read.extend([fields] if fields else [])
    except csv.Error:
        return read, True
    return read, False


@settings(max_examples=scale(150))
@given(st.text('ab,"\n\r', max_size=40), st.integers(1, 9))
def test_records_are_those_of_the_csv_module_up_to_its_first_error(text: str, chunk_chars: int) -> None:
    wanted, broken = judged(text)
    read, why = records_of(text, chunk_chars=chunk_chars)
    assert (read, bool(why)) == (wanted, broken)


@settings(max_examples=scale(60))
@given(
    st.lists(st.lists(st.text('ab ,"\n\0é', max_size=30), min_size=2, max_size=2), min_size=1, max_size=5),
    st.integers(4, 40),
    st.integers(1, 9),
)
def test_long_records_cost_no_other_and_give_none(rows: list[list[str]], limit: int, chunk: int) -> None:
    written = []
    for row in rows:
        stream = io.StringIO()
        csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(row)
        written.append(stream.getvalue())
    read, why = records_of("".join(written), limit, chunk)
    assert read == [row if len(text) <= limit else None for row, text in zip(rows, written, strict=True)]
    assert not why


@pytest.mark.parametrize(
    ("text", "kept", "why"),
    [
        ('a,b\nx,"never closed\ny,z\n', 1, "the quote that line 2 opens is never closed"),
        ('a,b\nx,"y"z\ny,z\n', 1, "line 2 has text behind a closing quote"),
        ('x,"a 5" pipe\nnurse,see the manual\nend"\n', 0, "line 1 has text behind a closing quote"),
        ('a,b\nx, "a,\nnurse,manual\n"\n', 1, "line 2 has blanks before a quote"),
    ],
)
def test_unclear_quotes_end_the_records(text: str, kept: int, why: str) -> None:
    read, told = records_of(text)
    assert len(read) == kept
    assert told == why


def test_quotes_amid_a_plain_field_are_characters() -> None:
    assert records_of('a,5" pipe\nb,"6"" pipe"\n') == ([["a", '5" pipe'], ["b", '6" pipe']], "")


def test_lines_are_counted_over_all_ends() -> None:
    for chunk_chars in (1, 2, 3, 100):
        stream = io.StringIO('a\r\n"b\nb"\r\r\nc\n\nd', newline="")
        assert [record.line for record in CsvRecords(stream, MANY, chunk_chars)] == [1, 2, 5, 7]


def test_long_quoted_text_is_read_and_invents_no_row(tmp_path: object) -> None:
    body = "Specification\n" + "x" * 140_000 + "\nnurse,see the manual\n" * 3000
    file = open_csv(tmp_path, f'id,text\nmanual,"{body}"\nnurse,Nurses care for patients\n')
    assert list(file.rows()) == [
        ItemRow(2, "manual", body),
        ItemRow(3 + body.count("\n"), "nurse", "Nurses care for patients"),
    ]


def test_file_with_a_quote_that_never_closes_keeps_what_came_before_and_is_an_error(tmp_path: object) -> None:
    rows = open_csv(tmp_path, 'id,text\na,one\nb,"two\nnurse,see the manual\n').rows()
    assert next(rows) == ItemRow(2, "a", "one")
    with pytest.raises(
        InvalidRequest, match=r"the quote that line 3 opens is never closed.*double the quotes"
    ):
        next(rows)


def open_csv(folder: object, text: str) -> ItemsFile:
    path = f"{folder}/x.csv"
    with open(path, "w", newline="") as stream:
        stream.write(text)
    return ItemsFile.open(path, FileColumns())
