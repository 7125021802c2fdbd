"""Arguments that every API takes are checked by one rule and refused in one wording."""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from rankport.protos.arguments import (
    check_choice,
    checked_items,
    checked_timeout_s,
    number_array,
    of_single_item,
)
from rankport.protos.errors import InvalidRequest
from rankport.protos.tagging import checked_stride


@pytest.mark.parametrize("timeout_s", [None, math.inf, 1.1e8, 10**400, np.float32("inf")])
def test_no_infinite_or_huge_timeout_is_a_limit(timeout_s: Any) -> None:
    assert checked_timeout_s(timeout_s) is None


@pytest.mark.parametrize("timeout_s", [0, 0.25, 3, np.float32(0.5), np.int64(7), 1e8])
def test_a_timeout_is_its_seconds(timeout_s: Any) -> None:
    assert checked_timeout_s(timeout_s) == timeout_s


@pytest.mark.parametrize("timeout_s", [math.nan, -1, -1e-9, -math.inf, "1", True, [1], 1j])
def test_what_is_no_time_is_refused_by_value(timeout_s: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"timeout_s is .*: it must be 0 or more seconds, or None"):
        checked_timeout_s(timeout_s)


def _drawn() -> Iterator[str]:
    yield from "ab"


@pytest.mark.parametrize(
    "items", [["a", "b"], ("a", "b"), _drawn(), map(str, "ab"), {"a": 0, "b": 0}.keys(), np.array(["a", "b"])]
)
def test_items_of_any_iterable_are_kept(items: Iterable[str]) -> None:
    assert list(checked_items(items)) == ["a", "b"]


def test_the_error_of_a_generator_of_items_is_its_own() -> None:
    def broken() -> Iterator[str]:
        yield "a"
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        checked_items(broken())


@pytest.mark.parametrize(
    ("items", "told"),
    [(None, "None"), (3, "an int"), ("text", "a str"), (b"bytes", "a bytes"), ({"a": "b"}, "a dict")],
)
def test_what_is_no_list_of_items_is_refused(items: Any, told: str) -> None:
    with pytest.raises(InvalidRequest, match=f"texts is {told}; give a list of items"):
        checked_items(items, "texts")


@pytest.mark.parametrize(
    ("message", "left"),
    [
        ("item 0: segment 'item' has 5 tokens", "segment 'item' has 5 tokens"),
        ("item 12 is an int; give text", "is an int; give text"),
        ("the item 0: kept", "the item 0: kept"),
    ],
)
def test_a_message_of_a_single_item_loses_its_index_only(message: str, left: str) -> None:
    assert of_single_item(message) == left


def test_whole_numbers_stay_whole_up_to_64_bits_without_a_sign() -> None:
    large = [3, 2**64 - 1, 2**53 + 1]
    assert number_array(large).tolist() == large
    assert [number_array(each).dtype for each in ([1, -2], [1.5, 2**63], [], [-1, 2**63], [2**64])] == [
        np.int64,
        np.float64,
        np.float64,
        np.float64,
        object,
    ]
    given = np.array([1, 2], np.uint8)
    assert number_array(given) is given


def test_a_choice_is_told_with_what_there_is() -> None:
    check_choice("side", "item", ("query", "item"))
    for wrong in ("items", None, ["item"]):
        with pytest.raises(
            InvalidRequest, match=rf"^side is {re.escape(repr(wrong))}; give one of query, item$"
        ):
            check_choice("side", wrong, ("query", "item"))


@pytest.mark.parametrize("stride", [0, 3, np.int64(3), np.uint8(3)])
def test_a_stride_may_be_a_number_of_numpy(stride: Any) -> None:
    assert checked_stride(stride) == int(stride)
