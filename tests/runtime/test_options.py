"""Fields that describe themselves: their ranges, keyword arguments that become dataclasses, and sizes of memory."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag, in_range
from rankport.runtime.options import (
    check_partners,
    check_ranges,
    from_keywords,
    refuse_unknown,
    size_in_bytes,
    size_in_words,
)


@dataclass(frozen=True, slots=True)
class Sizes:
    count: int = field(default=3, metadata=flag("How many.", least=1))
    share: float | None = field(default=None, metadata=in_range(least=0, most=1))
    names: tuple[str, ...] = field(default=(), metadata=flag("Names.", name="--name", needs="share"))
    sure: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)
        check_partners(self)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, "count is 0: it must be at least 1"),
        ({"share": 1.5}, "share is 1.5: it must be from 0 to 1"),
        ({"share": float("nan")}, "share is nan: it must be from 0 to 1"),
        ({"count": 2.0}, "count is 2.0: it must be a whole number, at least 1"),
        ({"count": True}, "count is True: it must be a whole number, at least 1"),
        ({"count": "4GiB"}, "count is '4GiB': it must be a whole number, at least 1"),
        ({"share": "1"}, "share is '1': it must be a number, from 0 to 1"),
        ({"share": False}, "share is False: it must be a number, from 0 to 1"),
        ({"sure": "no"}, "sure is 'no': it must be true or false"),
    ],
)
def test_a_value_that_is_no_number_of_the_range_is_told_with_it(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        Sizes(**given)


def test_numbers_of_numpy_are_numbers() -> None:
    assert Sizes(count=np.int64(4), share=np.float32(0.5)).count == 4


def test_a_field_is_told_without_the_one_that_it_is_for() -> None:
    told = r"names \(--name\) is \('a',\) without share \(--share\), which it is for: give both or neither"
    with pytest.raises(InvalidRequest, match=told):
        Sizes(names=("a",))
    assert Sizes(share=0, names=("a",)).names == ("a",)  # a partner of 0 is there
    Sizes(share=1)


def test_keyword_arguments_go_to_the_dataclass_that_knows_them() -> None:
    given = {"count": 5, "share": 1, "names": ["a"], "other": 1}
    assert from_keywords(Sizes, given) == Sizes(5, 1, ("a",))
    with pytest.raises(
        InvalidRequest, match="run has no option 'other': there are count, share, names, sure"
    ):
        refuse_unknown("run", given, Sizes)
    refuse_unknown("run", {}, Sizes)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("0", 0), ("4096", 4096), ("4GiB", 2**32), ("1.5 MiB", 3 * 2**19), ("2gb", 2 * 10**9)),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "4XB", "-1", "4 G iB", "0.5", "\u0664"])
def test_what_is_no_size_is_told(text: str) -> None:
    with pytest.raises(InvalidRequest, match="for example 512MiB, 4GiB"):
        size_in_bytes(text)


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0"), (2**32, "4GiB"), (3 * 2**19, "1536KiB"), (1000, "1000")]
)
def test_a_size_is_written_as_it_is_read(size: int, words: str) -> None:
    assert size_in_words(size) == words
    assert size_in_bytes(words) == size
