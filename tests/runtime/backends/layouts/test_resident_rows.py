"""Blocks of rows of ids: their sizes within a limit, what is sent of a pass, and what is counted."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.runtime.backends.layouts.resident_rows import ResidentRows, block_slots
from rankport.runtime.backends.layouts.sets import scales_input, table_input
from rankport.runtime.backends.ort.sets import HostBlock
from rankport.runtime.backends.set_contract import FeatureRows, RowCounts
from rankport.runtime.bundle.sections.sets import Sets

WIDTH = 4
ROWS = {"movie": 100, "user": 1000, "word": 10_000}
FEATURES = {
    "event": ["movie"],
    "candidate": ["movie", "word", "movie", "user"],
}


def sets(dtype: str = "int8") -> Sets:
    """Tables of every size, of which a candidate reads one twice."""
    sides = {
        side: [{"source": "id", "name": f"{place}", "table": table} for place, table in enumerate(tables)]
        for side, tables in FEATURES.items()
    }
    return Sets.model_validate(
        sides
        | {
            "tables": {name: {"rows": rows, "width": WIDTH} for name, rows in ROWS.items()},
            "files": {name: {"file": f"{name}.rows", "dtype": dtype} for name in ROWS},
            "mask": {"policy": "independent"},
            "max_events": 8,
            "max_candidates": 5,
            "head_weights": {"click": 1.0},
        }
    )


class Stored:
    """Rows whose values tell which they are. Implements `StoredRows`."""

    def __init__(self) -> None:
        self.read_rows: list[tuple[str, list[int]]] = []

    def read(
        self, table: str, places: NDArray[np.int64]
    ) -> tuple[NDArray[np.generic], NDArray[np.float32] | None]:
        self.read_rows.append((table, places.tolist()))
        return np.repeat(places[:, None] % 100, WIDTH, 1).astype(np.int8), (places + 0.5).astype(np.float32)


def candidates(*rows: tuple[int, int, int, int]) -> FeatureRows:
    return FeatureRows(np.zeros((len(rows), 0), np.float32), np.array(rows))


def test_small_tables_are_kept_whole_and_large_ones_share_the_rest() -> None:
    row = WIDTH + 4
    # Without a limit's worth of room a pass's own rows: 2 x 5 of the candidates, or 8 events.
    assert block_slots(sets(), 0) == {"movie": 11, "user": 6, "word": 6}
    assert block_slots(sets(), 10**9) == {name: rows + 1 for name, rows in ROWS.items()}
    assert block_slots(sets(), row * 700) == {"movie": 101, "user": 301, "word": 301}
    assert block_slots(sets(), row * 5000) == {"movie": 101, "user": 1001, "word": 3901}
    assert block_slots(sets("float16"), 2 * WIDTH * 700)["word"] == 301
    assert block_slots(sets("float32"), 4 * WIDTH * 700)["word"] == 301


def test_rows_and_scales_lie_where_the_slots_say() -> None:
    stored = Stored()
    resident = ResidentRows(sets(), stored, 0, HostBlock)
    asked = candidates((7, 9000, 8, 3), (8, 9001, -1, 3))
    slots = resident.slots("candidate", asked)
    for column, table in enumerate(FEATURES["candidate"]):
        found = slots[:, column]
        values, scales = (resident.blocks[name(table)].array for name in (table_input, scales_input))
        places = asked.places[:, column]
        zero = places < 0
        np.testing.assert_array_equal(values[found, 0], np.where(zero, 0, places % 100))
        np.testing.assert_array_equal(scales[found, 0], np.where(zero, 0, places + 0.5))
    assert stored.read_rows == [("movie", [7, 8]), ("word", [9000, 9001]), ("user", [3])]
    assert resident.counts() == RowCounts(resident=2, sent=5, kept=5)
    resident.slots("candidate", asked)
    assert resident.counts() == RowCounts(resident=9, sent=5, kept=5)


def test_an_event_finds_the_rows_that_candidates_brought() -> None:
    stored = Stored()
    resident = ResidentRows(sets(), stored, 0, HostBlock)
    resident.slots("candidate", candidates((7, 0, 8, 0)))
    slots = resident.slots("event", FeatureRows(np.zeros((2, 0), np.float32), np.array([[8], [7]])))
    assert resident.blocks["table.movie"].array[slots[:, 0], 0].tolist() == [8, 7]
    assert [table for table, _ in stored.read_rows] == ["movie", "word", "user"]


def test_reading_ahead_reads_what_a_pass_would_send_and_places_nothing() -> None:
    stored = Stored()
    resident = ResidentRows(sets(), stored, 0, HostBlock)
    resident.slots("candidate", candidates((7, 0, 8, 0)))
    stored.read_rows.clear()
    resident.read_ahead("candidate", candidates((7, 0, 9, 4), (1, 0, 9, 4)))
    assert stored.read_rows == [("movie", [9, 1, 9]), ("user", [4, 4])]
    assert resident.counts().kept == 4


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_of_floats_have_no_scales(dtype: str) -> None:
    resident = ResidentRows(sets(dtype), Stored(), 0, HostBlock)
    assert {block.array.dtype.name for block in resident.blocks.values()} == {dtype}
    assert set(resident.blocks) == {"table.movie", "table.user", "table.word"}
