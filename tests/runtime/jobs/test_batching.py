"""Windows and batches: so many rows, fewer where texts are long, and the same again from the same rows."""

from itertools import chain

import pytest

from rankport.runtime.jobs import batching
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.records import BadRow

KI = 2**10


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "WINDOW_CHARS", 64 * KI)
    monkeypatch.setattr(batching, "BATCH_CHARS", 8 * KI)


def _rows(lengths: list[int]) -> list[ItemRow | BadRow]:
    return [ItemRow(line, f"id{line}", "x" * length) for line, length in enumerate(lengths, 1)]


def test_short_rows_are_cut_by_their_number_alone() -> None:
    rows = _rows([5] * 10)
    assert list(batching.windows(rows, 4)) == [(0, rows[:4]), (1, rows[4:8]), (2, rows[8:])]
    assert list(batching.windows([], 4)) == []


def test_a_window_of_long_rows_comes_in_parts_of_its_number() -> None:
    rows = _rows([5, 40 * KI, 40 * KI, 5, 5, 70 * KI, 5, 5])
    numbers = [(number, [row.line for row in window]) for number, window in batching.windows(rows, 4)]
    assert numbers == [(0, [1, 2, 3]), (0, [4]), (1, [5, 6]), (1, [7, 8])]


def test_no_more_rows_are_drawn_than_a_part_has() -> None:
    drawn: list[int] = []

    def reading() -> "chain[ItemRow | BadRow]":
        return chain.from_iterable([row] for row in _rows([32 * KI] * 100) if drawn.append(row.line) is None)

    _, first = next(batching.windows(reading(), 2048))
    assert (len(first), drawn) == (2, [1, 2])


def test_all_that_a_row_holds_counts() -> None:
    kept = ItemRow(1, "a", "short", values={"text": "y" * 50, "more": b"z" * 7, "price": 3})
    assert batching.row_chars(kept) == 57  # of which a template took five
    assert batching.row_chars(ItemRow(1, "a", "joined of two", values={"text": "joined"})) == 13
    assert batching.row_chars(BadRow(1, "no text", content="{}")) == 2


def test_batches_of_long_texts_have_fewer_rows() -> None:
    rows = [row for row in _rows([3 * KI] * 7 + [1] * 3) if isinstance(row, ItemRow)]
    batches = list(batching.length_batches(rows, 4))
    assert [[len(row.text) for row in batch] for batch in batches] == [
        [1, 1, 1, 3 * KI],
        [3 * KI] * 3,
        [3 * KI],
        [3 * KI] * 2,
    ]
