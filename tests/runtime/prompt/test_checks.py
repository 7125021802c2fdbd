"""Checks of embedding tokens: what is not finite is found by its bits, whatever the bits are."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest
from rankport.runtime.prompt.checks import checked_rows

PLACE = np.arange(1)
HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)
LARGEST = np.finfo(np.float32).max
SINGLES = np.array([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, LARGEST, -LARGEST], np.float32)
NOT_FINITE = np.array(
    [0x7F80_0000, 0x7F80_0001, 0x7FFF_FFFF, 0xFF80_0000, 0xFF80_0001, 0xFFFF_FFFF], np.uint32
).view(np.float32)


def rows_of(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return checked_rows(values.reshape(1, 1, -1), PLACE, 1, values.size)


@pytest.mark.parametrize("values", [HALVES[np.isfinite(HALVES)], SINGLES], ids=["float16", "float32"])
def test_all_that_is_finite_is_taken_as_it_is(values: NDArray[np.floating]) -> None:
    np.testing.assert_array_equal(rows_of(values)[0], values)


@pytest.mark.parametrize("values", [HALVES[~np.isfinite(HALVES)], NOT_FINITE], ids=["float16", "float32"])
@pytest.mark.parametrize("others", [1.0, -1.0])
def test_each_that_is_not_finite_is_named(values: NDArray[np.floating], others: float) -> None:
    for value in values:
        row = np.full(3, others, values.dtype)
        row[1] = value
        with pytest.raises(InvalidRequest, match=r"item 0: embedding tokens hold -?(inf|nan) at \[0, 1\]"):
            rows_of(row)


def test_rows_without_a_number_hold_none_that_is_not_finite() -> None:
    assert checked_rows(np.empty((0, 1, 4), np.float16), np.arange(0), 1, 4).shape == (0, 4)
