"""Texts to classify, results as labels and tables, and both as messages."""

import numpy as np
import pytest

from rankport.protos.classes import ClassifyResult, ClassTexts
from rankport.protos.errors import InvalidRequest
from rankport.protos.messages import class_wire
from rankport.protos.types import ItemStatus, Key, Usage
from rankport.protos.v1 import rankport_pb2 as pb

NAN = float("nan")
RESULT = ClassifyResult(
    labels=("low", "medium", "high"),
    probabilities=np.array([[0.2, 0.7, 0.1], [NAN, NAN, NAN], [0.45, 0.1, 0.45]], np.float32),
    logits=np.array([[0.5, 1.75, -0.2], [NAN, NAN, NAN], [2, 0.5, 2]], np.float32),
    exclusive=True,
    status=(ItemStatus.OK, ItemStatus.FAILED, ItemStatus.TRUNCATED),
    messages=("", "no logit", "text cut"),
    usage=Usage(0, 0, 9, 0.1, 0.2, 0.3),
    fingerprint="f" * 64,
)


def test_the_best_label_is_the_likeliest_and_the_first_of_equals() -> None:
    assert RESULT.best == ("medium", "", "low")
    np.testing.assert_array_equal(RESULT.best_probabilities, np.array([0.7, NAN, 0.45], np.float32))


def test_labels_above_a_threshold_are_listed_in_order() -> None:
    assert RESULT.above(0.2) == (("low", "medium"), (), ("low", "high"))
    assert RESULT.above() == (("medium",), (), ())
    with pytest.raises(InvalidRequest, match=r"threshold is 1\.5: a probability is 0 to 1"):
        RESULT.above(1.5)


def test_a_result_becomes_a_table() -> None:
    frame = RESULT.to_pandas()
    assert list(frame.columns) == ["index", "label", "probability", "probabilities", "status", "message"]
    assert frame["label"].tolist() == ["medium", "", "low"]
    assert RESULT.to_arrow()["probability"].to_pylist()[1] is None


def test_results_survive_the_wire_with_their_outcomes() -> None:
    message = class_wire.classify_response(RESULT)
    assert [outcome.index for outcome in message.outcomes] == [1, 2]  # nothing of the text that went well
    back = class_wire.classify_result(pb.ClassifyResponse.FromString(message.SerializeToString()))
    np.testing.assert_array_equal(back.probabilities, RESULT.probabilities)
    np.testing.assert_array_equal(back.logits, RESULT.logits)
    assert (back.labels, back.exclusive, back.status, back.messages, back.usage, back.fingerprint) == (
        RESULT.labels,
        True,
        RESULT.status,
        RESULT.messages,
        RESULT.usage,
        RESULT.fingerprint,
    )


def test_a_response_whose_parts_do_not_fit_is_refused() -> None:
    message = class_wire.classify_response(RESULT)
    message.labels.append("more")
    with pytest.raises(InvalidRequest, match=r"4 labels, probabilities of shape \[3, 3\]"):
        class_wire.classify_result(message)


@pytest.mark.parametrize("texts", [["a", "b"], [[1, 2], [3]], ["a", [1, 2]], [("a", "b"), ("a", "c")]])
def test_requests_survive_the_wire(texts: list[object]) -> None:
    request = class_wire.classify_request("m", texts, None, "truncate")  # type: ignore[arg-type]
    query = class_wire.classify_query(pb.ClassifyRequest.FromString(request.SerializeToString()))
    expected = ClassTexts.of(texts)  # type: ignore[arg-type]
    assert (query.prefix, query.truncation) == (None, "truncate")
    assert [*map(listed, query.texts.texts)] == [*map(listed, expected.texts)]
    if expected.firsts is None:
        assert query.texts.firsts is None
    else:
        assert query.texts.firsts is not None
        assert list(query.texts.firsts) == ["a", "a"]


def listed(text: object) -> object:
    return text.tolist() if isinstance(text, np.ndarray) else text


def test_a_prefix_travels_beside_the_texts() -> None:
    request = class_wire.classify_request("", ["a"], "job", "error")
    assert class_wire.classify_query(request).prefix == "job"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", ("a", "b")], r"texts\[0\] is one text, texts\[1\] a pair of them: give all alike"),
        (["a", Key("k")], r"texts\[1\] is neither text nor token ids"),
        (
            [("a", "b"), ("a", np.zeros((1, 2), np.float32))],
            r"texts\[1\] is .*array.*: give a text, token ids",
        ),
        ("abc", "texts is a str; give a list of items"),
    ],
)
def test_what_is_no_text_is_refused_by_its_place(texts: object, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        ClassTexts.of(texts)  # type: ignore[arg-type]


def test_first_texts_are_as_many_as_second_ones() -> None:
    request = class_wire.classify_request("", [("a", "b"), ("c", "d")], None, "error")
    del request.first_texts.texts.values[1]
    with pytest.raises(InvalidRequest, match="there are 1 first texts and 2 texts: give one for each"):
        class_wire.classify_query(request)


@pytest.mark.parametrize("wrong", [("a", "b", "c"), ["a"], (None, "a"), ("a", 3)])
def test_what_looks_like_a_pair_and_is_none_is_shown(wrong: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^texts\[1\] is .*: give a text, token ids, or a pair of them"):
        ClassTexts.of(["a", wrong])  # type: ignore[list-item]
