"""Slots of a block: every row that a pass reads lies where it is told to, whatever came before."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.layouts.row_slots import ZEROS, RowSlots
from support.effort import scale
from support.sets.private_memory import private_bytes

ROWS, PASS = 20, 6
Writes = list[tuple[int, list[int]]]


class Block:
    """Rows in the slots of a block, and those that were written to it."""

    def __init__(self, rows: int, slots: int) -> None:
        self.slots, self.writes = RowSlots(rows, slots), Writes()
        self.content = np.full(slots, -9)
        self.content[0] = ZEROS

    def place(self, *rows: int) -> NDArray[np.int32]:
        return self.slots.place(np.array(rows, np.int64), self.write)

    def write(self, first: int, rows: NDArray[np.int64]) -> None:
        assert first > 0, "the slot of zeros"
        self.content[first : first + len(rows)] = rows
        self.writes.append((first, rows.tolist()))


@settings(max_examples=scale(200))
@given(
    st.integers(PASS + 1, ROWS + 1),
    st.lists(st.lists(st.integers(ZEROS, ROWS - 1), min_size=1, max_size=PASS), max_size=30),
)
def test_every_row_lies_in_its_slot(slots: int, passes: list[list[int]]) -> None:
    block = Block(ROWS, slots)
    for rows in passes:
        found = block.place(*rows)
        assert found.dtype == np.int32
        assert block.content[found].tolist() == rows
    known = {row for rows in passes for row in rows} - {ZEROS}
    assert len(block.slots) <= min(slots - 1, len(known))
    written = [row for _, rows in block.writes for row in rows]
    assert set(written) == known
    if slots > ROWS:
        assert len(written) == len(known), "where all rows have room, each is written once"


def test_rows_that_are_missing_are_written_beside_each_other_and_once() -> None:
    block = Block(ROWS, 11)
    block.place(7, 3, 7, ZEROS)
    block.place(3, 9, 7)
    assert block.writes == [(1, [3, 7]), (3, [9])]
    assert block.slots.missing(np.array([9, 1, ZEROS, 4, 1])).tolist() == [1, 4, 1]


def test_the_rows_written_longest_ago_give_way_but_for_those_that_the_pass_reads() -> None:
    block = Block(ROWS, 7)
    for row in range(6):
        block.place(row)
    # Two are written over the oldest two, of which it reads one: that is written anew, over the third.
    block.place(10, 11, 1)
    assert block.writes[-1] == (1, [10, 11, 1])
    assert block.place(3, 4, 5).tolist() == [4, 5, 6]
    assert sorted(block.slots.missing(np.arange(6)).tolist()) == [0, 2]


def test_what_does_not_fit_before_the_end_begins_anew() -> None:
    block = Block(ROWS, 7)
    block.place(0, 1, 2, 3)
    block.place(4, 5, 6)
    assert block.writes == [(1, [0, 1, 2, 3]), (1, [4, 5, 6])]
    assert block.place(3).tolist() == [4]


def test_a_write_that_fails_leaves_nothing_behind() -> None:
    block = Block(ROWS, 5)
    block.place(0, 1, 2, 3)

    def fail(first: int, rows: NDArray[np.int64]) -> None:
        block.content[first] = -5
        raise BackendError("gone")

    with pytest.raises(BackendError, match="gone"):
        block.slots.place(np.array([8, 9]), fail)
    assert block.content[block.place(0, 1, 2, 3)].tolist() == [0, 1, 2, 3]
    assert block.content[block.place(8, 9)].tolist() == [8, 9]


def test_more_rows_than_slots_are_no_pass() -> None:
    with pytest.raises(AssertionError, match="more rows than 4 slots"):
        Block(ROWS, 5).place(*range(5))


def test_slots_of_ten_million_rows_are_there_at_once_and_cost_what_is_kept() -> None:
    rows, kept = 10_000_000, 5_000_000
    before, begun_s = private_bytes(), time.process_time()
    slots = RowSlots(rows, kept + 1)
    assert time.process_time() - begun_s < 1
    asked = np.arange(0, rows, rows // 1000)
    slots.place(asked, lambda first, written: None)
    assert not len(slots.missing(asked))
    assert private_bytes() - before < 8 * 2**20
