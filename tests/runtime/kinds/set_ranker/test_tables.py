"""Tables of ids: rows of every type, unknown ids, and large files that cost no memory."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from rankport.protos.errors import BundleError, InvalidRequest
from rankport.runtime.bundle.sections.sets import IdTable
from rankport.runtime.kinds.set_ranker.id_keys import key_file_bytes, splitmix64
from rankport.runtime.kinds.set_ranker.tables import RowTable, row_file_bytes
from support.sets.private_memory import private_bytes

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3) / 4


def opened(folder: Path, content: bytes, dtype: str = "float32", **policy: object) -> RowTable:
    file = folder / "item.rows"
    file.write_bytes(content)
    return RowTable.open(file, "item", IdTable(rows=4, width=3, **policy), dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_are_read_as_they_were_written(dtype: str, tmp_path: Path) -> None:
    table = opened(tmp_path, row_file_bytes(ROWS.astype(dtype)), dtype)
    np.testing.assert_array_equal(table.gather(np.array([3, 0, 3]), "history['item']"), ROWS[[3, 0, 3]])


def test_int8_rows_have_a_scale_each(tmp_path: Path) -> None:
    codes = np.array([[1, -2, 127], [0, 0, 0], [5, 5, 5], [-127, 1, 1]], np.int8)
    table = opened(tmp_path, row_file_bytes(codes, np.array([0.5, 1, 2, 0.25], np.float32)), "int8")
    expected = [[-31.75, 0.25, 0.25], [0.5, -1, 63.5]]
    assert table.gather(np.array([3, 0]), "history['item']").tolist() == expected


def test_an_unknown_id_is_what_the_table_says(tmp_path: Path) -> None:
    content, ids = row_file_bytes(ROWS), np.array([1, 4, -1])
    zero = opened(tmp_path, content, unknown="zero").gather(ids, "x")
    shared = opened(tmp_path, content, unknown="shared", shared_row=2).gather(ids, "x")
    np.testing.assert_array_equal(zero, [ROWS[1], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(shared, ROWS[[1, 2, 2]])
    with pytest.raises(
        InvalidRequest, match=r"history\['item'\]\[1\] is the id 4, and table 'item' has 4 rows"
    ):
        opened(tmp_path, content).gather(ids, "history['item']")


def test_a_hash_gives_every_id_a_row(tmp_path: Path) -> None:
    table = opened(tmp_path, row_file_bytes(ROWS), lookup="splitmix64", seed=0x9E3779B97F4A7C15 >> 1)
    assert table.gather(np.array([-1, 2**62, 5]), "x").shape == (3, 3)
    # The first outputs of the generator with seed 0, as its authors publish them.
    given = np.array([0, 0x9E3779B97F4A7C15], np.uint64)
    assert splitmix64(given).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_a_remainder_is_that_of_the_ids_as_they_are_and_never_negative(tmp_path: Path) -> None:
    """Remainders as `%` of Python, and of torch over int64; unsigned ids are not read as negative ones."""
    ids = np.array([-1, -6, 9, 2**62 + 3, -(2**63)], np.int64)
    signed = opened(tmp_path, row_file_bytes(ROWS), lookup="modulo")
    assert signed.places(ids, "x").tolist() == [each % 4 for each in ids.tolist()]
    three = IdTable(rows=3, width=4, lookup="modulo", ids="uint64")
    unsigned = RowTable(three, "item", ROWS.reshape(3, 4), None)
    assert unsigned.places(ids, "x").tolist() == [each % 2**64 % 3 for each in ids.tolist()]
    assert unsigned.places(ids, "x").tolist() != [each % 3 for each in ids.tolist()]


@pytest.mark.parametrize(("ids", "shown"), [("int64", "-2"), ("uint64", "18446744073709551614")])
def test_an_id_without_a_key_is_what_the_table_says(ids: str, shown: str, tmp_path: Path) -> None:
    content, keys = row_file_bytes(ROWS), tmp_path / "item.keys"
    keys.write_bytes(key_file_bytes(np.array([-9, 7, 5]), np.array([2, 0, 3])))
    (tmp_path / "item.rows").write_bytes(content)

    def table(**policy: object) -> RowTable:
        stated = IdTable(rows=4, width=3, lookup="keys", keys=3, ids=ids, **policy)  # type: ignore[arg-type]
        return RowTable.open(tmp_path / "item.rows", "item", stated, "float32", keys)

    asked = np.array([5, -2, -9, 6])
    zero = table(unknown="zero").gather(asked, "x")
    np.testing.assert_array_equal(zero, [ROWS[3], [0, 0, 0], ROWS[2], [0, 0, 0]])
    shared = table(unknown="shared", shared_row=1).gather(asked, "x")
    np.testing.assert_array_equal(shared, ROWS[[3, 1, 2, 1]])
    with pytest.raises(
        InvalidRequest,
        match=rf"x\[1\] is the id {shown}, and table 'item' has 3 keys, not this one \(and 1 more of the column\)",
    ):
        table().gather(asked, "x")
    assert table().some_id().dtype == ids
    assert table().places(table().some_id().view(np.int64), "x").tolist() in ([0], [2], [3])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keys": 3}, "keys goes with lookup = keys, and lookup is direct"),
        ({"lookup": "keys", "seed": 5}, "seed goes with the hash splitmix64, and lookup is keys"),
        ({"lookup": "keys", "rows": 2**32}, "a table with keys has fewer than 2\\*\\*32"),
    ],
)
def test_what_a_table_says_fits(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        IdTable.model_validate({"rows": 4, "width": 3} | fields)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RPROWS",
        row_file_bytes(ROWS[:3]),
        row_file_bytes(ROWS.astype(np.float16)),
        row_file_bytes(ROWS)[:-1],
    ],
)
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"item\.rows: .*copy it again"):
        opened(tmp_path, content)


def test_ten_million_rows_open_at_once_and_cost_no_private_memory(tmp_path: Path) -> None:
    rows, width = 10_000_000, 64
    file = tmp_path / "big.rows"
    with file.open("wb") as stream:
        stream.write(row_file_bytes(np.zeros((1, 1), np.float16))[:8] + np.array([rows], "<u8").tobytes())
        stream.write(np.array([width, 2], "<u4").tobytes())
        stream.truncate(64 + rows * width * 2)  # a hole: it has no blocks on disk
    before, begun_s = private_bytes(), time.process_time()
    table = RowTable.open(file, "big", IdTable(rows=rows, width=width), "float16")
    assert time.process_time() - begun_s < 1
    assert not table.gather(np.arange(0, rows, rows // 100), "x").any()
    assert private_bytes() - before < 8 * 2**20
