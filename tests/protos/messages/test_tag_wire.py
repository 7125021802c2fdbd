"""Tag's messages: places in every unit, golden bytes, and responses whose parts do not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankport.protos.errors import InvalidRequest
from rankport.protos.messages import tag_wire
from rankport.protos.messages.text_units import places_in
from rankport.protos.tagging import TagTexts
from rankport.protos.v1 import rankport_pb2 as pb

TEXTS = st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=6), min_size=1, max_size=4)


@given(TEXTS)
def test_places_count_the_units_before_them(texts: list[str]) -> None:
    pairs = [(text, place) for text, own in enumerate(texts) for place in range(len(own) + 1)]
    text_of, places = np.array(pairs).T
    for unit, encoding, size in (
        ("utf8", "utf-8", 1),
        ("utf16", "utf-16-le", 2),
        ("code_points", "utf-32-le", 4),
    ):
        expected = [len(texts[text][:place].encode(encoding)) // size for text, place in pairs]
        assert places_in(texts, places, text_of, unit).tolist() == expected  # type: ignore[arg-type]


def test_a_request_has_these_bytes() -> None:
    texts = tag_wire.tag_request("m", ["né"], "windows", 4)
    words = tag_wire.tag_request("", [["a", "b"], []], "error", None)
    assert texts.SerializeToString().hex() == "0a016d12050a036ec3a920032804"
    assert words.SerializeToString().hex() == "1a0a0a01610a01621202020020" + "01"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": [1]}, "counts has 1 value for 2 texts"),
        ({"counts": [1, 1]}, "starts has 1 value for 2 spans"),
        ({"labels": [3]}, "labels name a label that is none of the 1"),
        ({"scores": pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[1], data=b"")}, r"scores\.data has 0 bytes"),
    ],
)
def test_responses_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    score = pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[1], data=bytes(4))
    parts = {"names": ["city"], "counts": [1, 0], "starts": [0], "ends": [1], "labels": [0], "scores": score}
    response = pb.TagResponse(**(parts | change))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=message):
        tag_wire.tag_result(response, TagTexts.of(["a", "b"]))
    whole = tag_wire.tag_result(pb.TagResponse(**parts), TagTexts.of(["a", "b"]))  # type: ignore[arg-type]
    assert [(span.start, span.end, span.label) for span in whole.spans(0)] == [(0, 1, "city")]
