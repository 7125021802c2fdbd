"""Rows of the tables of ids in blocks that graphs gather from: a block a table, each row in the type of its file.

Owns how large the blocks are, and what of a pass is sent. The blocks' memory is a backend's.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import TokenTable
from rankport.runtime.backends.layouts.row_slots import ZEROS, RowSlots
from rankport.runtime.backends.layouts.sets import scales_input, table_input
from rankport.runtime.backends.set_contract import FeatureRows, Places, RowCounts, StoredRows
from rankport.runtime.bundle.manifest import DType
from rankport.runtime.bundle.sections.sets import IdFeature, RowType, Sets

BlockT = TypeVar("BlockT", bound=TokenTable)
Side = Literal["event", "candidate"]
_ITEM_BYTES: Mapping[RowType, int] = {"float32": 4, "float16": 2, "int8": 1}
_SCALE_BYTES = 4


class ResidentRows(Generic[BlockT]):
    """Rows of all tables of a ranker of sets. Driven by the backend's thread; any may ask for `counts`."""

    def __init__(
        self, sets: Sets, stored: StoredRows, limit_bytes: int, allocate: Callable[[int, int, DType], BlockT]
    ) -> None:
        """Has blocks [slots, width] of a type allocated, all zeros. What `allocate` raises is raised."""
        self._stored = stored
        self._columns: dict[Side, dict[str, list[int]]] = {
            "event": _columns(sets, "event"),
            "candidate": _columns(sets, "candidate"),
        }
        self._slots: dict[str, RowSlots] = {}
        self._blocks: dict[str, BlockT] = {}
        for name, slots in block_slots(sets, limit_bytes).items():
            table, dtype = sets.tables[name], sets.files[name].dtype
            self._slots[name] = RowSlots(table.rows, slots)
            self._blocks[table_input(name)] = allocate(slots, table.width, dtype)
            if dtype == "int8":
                self._blocks[scales_input(name)] = allocate(slots, 1, "float32")
        self._asked = self._sent = 0

    @property
    def blocks(self) -> Mapping[str, BlockT]:
        """Blocks by the input of a graph that takes them."""
        return self._blocks

    def counts(self) -> RowCounts:
        """Returns the counters."""
        asked, sent = self._asked, self._sent
        return RowCounts(max(asked - sent, 0), sent, sum(map(len, self._slots.values())))

    def slots(self, side: Side, rows: FeatureRows) -> NDArray[np.int32]:
        """Finds where the rows of ids lie, behind the enqueued writes of those that lay nowhere. [rows, ids]

        Raises as `StoredRows.read`, and as a block's write.
        """
        slots = np.empty(rows.places.shape, np.int32)
        for table, columns in self._columns[side].items():
            places = rows.places[:, columns]
            found = self._slots[table].place(places.reshape(-1), partial(self._write, table))
            slots[:, columns] = found.reshape(places.shape)
        self._asked += int(np.count_nonzero(rows.places != ZEROS))
        return slots

    def read_ahead(self, side: Side, rows: FeatureRows) -> None:
        """Reads what a pass over the rows will send, so that it waits for no disk. Any thread may."""
        for table, columns in self._columns[side].items():
            missing = self._slots[table].missing(rows.places[:, columns].reshape(-1))
            if len(missing):
                self._stored.read(table, missing)

    def _write(self, table: str, first: int, places: Places) -> None:
        values, scales = self._stored.read(table, places)
        self._blocks[table_input(table)].write(first, values)
        if scales is not None:
            self._blocks[scales_input(table)].write(first, scales[:, None])
        self._sent += len(places)


def block_slots(sets: Sets, limit_bytes: int) -> dict[str, int]:
    """Counts the slots of each table: of all rows where there is room, at least of what a pass may read, and of zeros.

    Small tables come first, so that the others share what they leave.
    """
    row_bytes = {name: _row_bytes(sets, name) for name in sets.tables}
    by_size = sorted(row_bytes, key=lambda name: sets.tables[name].rows * row_bytes[name])
    slots, left = {}, limit_bytes
    for index, name in enumerate(by_size):
        share = left // (len(by_size) - index) // row_bytes[name]
        rows = min(sets.tables[name].rows, max(share, _pass_rows(sets, name)))
        slots[name] = 1 + rows
        left = max(0, left - rows * row_bytes[name])
    return slots


def _row_bytes(sets: Sets, table: str) -> int:
    dtype = sets.files[table].dtype
    return sets.tables[table].width * _ITEM_BYTES[dtype] + (_SCALE_BYTES if dtype == "int8" else 0)


def _pass_rows(sets: Sets, table: str) -> int:
    events, candidates = (len(_columns(sets, side).get(table, ())) for side in ("event", "candidate"))
    return max(sets.max_events * events, sets.max_candidates * candidates)


def _columns(sets: Sets, side: Side) -> dict[str, list[int]]:
    """Lists which of a side's features of ids each table is of."""
    features = sets.event if side == "event" else sets.candidate
    columns: dict[str, list[int]] = {}
    for index, feature in enumerate(each for each in features if isinstance(each, IdFeature)):
        columns.setdefault(feature.table, []).append(index)
    return columns
