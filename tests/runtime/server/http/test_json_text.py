"""JSON of answers: the same text however it is cut, in parts that are as small as they are said to be."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.runtime.server.http.json_text import about_bytes, json_parts, json_text
from support.effort import scale

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=40,
)
LARGE = {
    "data": [{"index": index, "embedding": [index / 7] * 256} for index in range(300)],
    "scores": [index / 3 for index in range(40_000)],
    "results": [{"index": index, "document": {"text": "it"}} for index in range(20_000)],
}


def whole(body: object) -> str:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@settings(max_examples=scale(40))
@given(body=VALUES, part_bytes=st.integers(0, 60))
def test_parts_are_the_whole(body: object, part_bytes: int) -> None:
    assert "".join(json_parts(body, part_bytes)) == whole(body)


def test_a_large_answer_is_many_small_parts() -> None:
    parts = list(json_parts(LARGE))
    assert "".join(parts) == json_text(LARGE) == whole(LARGE)
    assert max(map(len, parts)) < 2**17
    assert 0.5 < about_bytes(LARGE) / len(whole(LARGE)) < 2


@pytest.mark.parametrize("large", [0, 100_000])
def test_what_is_no_number_is_not_written(large: int) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"scores": [0.5] * large + [float("nan")]})
