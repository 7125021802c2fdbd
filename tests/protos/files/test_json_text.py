"""JSON that users write: no name twice in an object, at any depth."""

import pytest

from rankport.protos.files.json_text import json_of_text


def test_what_is_json_is_read() -> None:
    assert json_of_text('{"a": [1, {"b": null}], "c": "d"}') == {"a": [1, {"b": None}], "c": "d"}
    assert json_of_text(b'"\xc3\xa9"') == "é"


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]'])
def test_a_name_that_comes_twice_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="key 'a' is given twice in one object"):
        json_of_text(text)


def test_a_name_that_comes_twice_behind_many_is_told() -> None:
    """A client chooses how many: compared each with each, these would hold a server up for ten minutes."""
    names = ",".join(f'"f{number}":0' for number in range(100_000))
    with pytest.raises(ValueError, match="key 'f99999' is given twice in one object"):
        json_of_text(f'{{{names},"f99999":0}}')


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "", b"\xff"])
def test_what_is_none_is_told(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_of_text(text)
