"""Messages say a number with its noun, and only what is amiss."""

import pytest

from rankport.protos.wording import amiss, be, counted, listed, repeated, type_told


@pytest.mark.parametrize(
    ("count", "noun", "form", "told"),
    [
        (0, "item", "", "0 items"),
        (1, "item", "", "1 item"),
        (2, "query", "", "2 queries"),
        (2, "key", "", "2 keys"),
        (3, "entry", "", "3 entries"),
        (1234, "row", ",", "1,234 rows"),
    ],
)
def test_numbers_go_with_their_nouns(count: int, noun: str, form: str, told: str) -> None:
    assert counted(count, noun, form) == told


def test_verbs_go_with_their_numbers() -> None:
    assert [be(count) for count in (0, 1, 2)] == ["are", "is", "are"]


def test_types_have_their_articles() -> None:
    values: list[object] = [1, "", [], None, b"", object(), Exception()]
    told = ["an int", "a str", "a list", "None", "a bytes", "an object", "an Exception"]
    assert list(map(type_told, values)) == told


def test_what_there_is_none_of_is_not_said() -> None:
    assert amiss(["a", "b"], []) == "missing a, b"
    assert amiss([], ["c"]) == "unknown c"
    assert amiss(["a"], ["c"]) == "missing a, unknown c"


def test_long_lists_are_cut() -> None:
    assert listed([]) == "none"
    assert listed([], "no field") == "no field"
    assert listed(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


def test_names_that_come_twice_are_found_among_many() -> None:
    many = [*range(200_000), 7, 199_999, 7]
    assert repeated(many) == [7, 199_999]
    assert repeated([]) == []
