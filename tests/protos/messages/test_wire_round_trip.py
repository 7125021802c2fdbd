"""Every value that fits the wire comes back as it went."""

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from rankport.protos.arguments import check_prefix
from rankport.protos.errors import InvalidRequest
from rankport.protos.messages import wire
from rankport.protos.messages.tensors import tensor_message
from rankport.protos.types import (
    EncodedText,
    FeatureDescription,
    ItemStatus,
    Key,
    ModelDescription,
    ScoreResult,
    Usage,
)
from rankport.protos.v1 import rankport_pb2 as pb
from support.effort import scale

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
IDS = st.lists(st.integers(0, 2**40), max_size=8)
FLOATS = st.sampled_from([np.float16, np.float32]).flatmap(
    lambda dtype: npst.arrays(dtype, st.tuples(st.integers(1, 3), st.integers(1, 4)))
)
FORMS = (TEXTS, TEXTS.map(Key), IDS, FLOATS)
ITEMS = st.one_of(*(st.lists(form, max_size=6) for form in FORMS), st.lists(st.one_of(*FORMS), max_size=6))
PREFIXES = st.one_of(TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=3), IDS)
COUNTS = st.integers(0, 2**40)
SECONDS = st.floats(0, 1e6)
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, SECONDS, SECONDS, SECONDS)
STRINGS = st.lists(TEXTS, max_size=3).map(tuple)
NUMBERS = st.lists(COUNTS, max_size=3).map(tuple)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: COUNTS,
    bool: st.booleans(),
    tuple[str, ...]: STRINGS,
    tuple[int, ...]: NUMBERS,
    tuple[FeatureDescription, ...]: st.lists(
        st.builds(FeatureDescription, TEXTS, TEXTS, COUNTS, TEXTS, TEXTS, COUNTS)
    ).map(tuple),
}
DESCRIPTIONS = st.builds(
    ModelDescription,
    **{field.name: BY_TYPE[field.type] for field in fields(ModelDescription)},
)
QUICK = settings(max_examples=scale(50))


def same(left: Any, right: Any) -> bool:
    """Equal values; arrays of the same dtype, shape and bits; token ids whatever holds them."""
    if isinstance(left, np.ndarray) and left.dtype.kind == "f":
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, list):
        return left == list(right)
    return bool(left == right)


@QUICK
@given(PREFIXES, ITEMS, st.sampled_from(["error", "truncate"]), st.sampled_from(["skip", "fail"]))
def test_a_score_request_comes_back(prefix: Any, items: Any, truncation: Any, on_missing: Any) -> None:
    sent = wire.score_request("m", prefix, items, truncation, on_missing).SerializeToString()
    query = wire.score_query(pb.ScoreRequest.FromString(sent))
    assert same(prefix, query.prefix)
    assert len(items) == len(query.items)
    assert all(same(*pair) for pair in zip(items, query.items, strict=True))
    assert (query.truncation, query.on_missing) == (truncation, on_missing)


def test_what_stands_for_a_query_comes_back_and_only_two_towers_take_it() -> None:
    row = np.array([0.5, -1.0], np.float16)
    for query in (Key("q17"), row):
        sent = wire.score_request("m", query, ["a"], "error", "skip").SerializeToString()
        assert same(query, wire.score_query(pb.ScoreRequest.FromString(sent)).prefix)
        with pytest.raises(InvalidRequest, match="give text, fields by name, or token ids"):
            check_prefix(query)


def test_features_and_sides_come_back() -> None:
    values = np.array([[1.0, np.nan], [2.5, -3.0]], np.float32)
    for features, names in (
        (values, ()),
        ({"bm25": values[:, 0], "length": [np.nan, -3]}, ("bm25", "length")),
    ):
        sent = wire.score_request("m", "q", ["a", "b"], "error", "skip", features).SerializeToString()
        query = wire.score_query(pb.ScoreRequest.FromString(sent))
        assert query.features is not None
        assert (query.features.names, query.features.values.tobytes()) == (names, values.tobytes())
    assert wire.score_query(wire.score_request("m", "q", ["a"], "error", "skip")).features is None
    for side in ("query", "item", None):
        assert wire.encode_query(wire.encode_request("m", ["a"], "error", side)).side == side
        assert wire.encode_query(wire.stream_request("m", [("1", "a")], "error", side)).side == side


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_names": ["a", "b", "c"]}, "features has 2 columns and 3 feature_names"),
        ({"features": None, "feature_names": ["a"]}, "there are 1 feature_names, and features is not set"),
        ({"features": tensor_message(np.ones(2, np.float32), "x")}, "expected float32 with 2"),
    ],
)
def test_features_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    request = wire.score_request("m", "q", ["a"], "error", "skip", np.ones((1, 2), np.float32))
    for field, value in change.items():
        request.ClearField(field)
        if value is not None:
            request.MergeFrom(pb.ScoreRequest(**{field: value}))
    with pytest.raises(InvalidRequest, match=message):
        wire.score_query(request)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([1.0, 2.0], r"features has shape \[2\]; give an array \[items, features\], or columns by name"),
        ({"a": [1.0], "b": [1.0, 2.0]}, "columns of unequal length: {'a': 1, 'b': 2}"),
        ({"a": ["x"]}, r"features\['a'\] holds what is no number"),
        ({"a": [[1.0]]}, r"features\['a'\] has shape \[1, 1\]; give one number an item"),
        ({3: [1.0]}, "features: the name 3 is an int; give text"),
    ],
)
def test_features_of_another_form_are_refused(features: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        wire.score_request("m", "q", ["a"], "error", "skip", features)


@st.composite
def results(draw: st.DrawFn) -> ScoreResult:
    items, labels = draw(st.integers(0, 5)), draw(st.integers(1, 3))
    return ScoreResult(
        scores=draw(npst.arrays(np.float32, items)),
        logits=draw(npst.arrays(np.float32, (items, labels))),
        status=tuple(draw(st.lists(st.sampled_from(ItemStatus), min_size=items, max_size=items))),
        messages=tuple(draw(st.lists(TEXTS, min_size=items, max_size=items))),
        usage=draw(USAGES),
        fingerprint=draw(TEXTS),
        score_kind=draw(TEXTS),
        read_out=draw(TEXTS),
    )


@QUICK
@given(results())
def test_a_score_result_comes_back(result: ScoreResult) -> None:
    sent = wire.score_response(result).SerializeToString()
    received = wire.score_result(pb.ScoreResponse.FromString(sent))
    assert same(result.scores, received.scores)
    assert same(result.logits, received.logits)
    assert (result.status, result.messages) == (received.status, received.messages)
    assert (result.usage, result.fingerprint) == (received.usage, received.fingerprint)
    assert (result.score_kind, result.read_out) == (received.score_kind, received.read_out)


@QUICK
@given(st.lists(st.one_of(TEXTS, IDS), max_size=5), st.sampled_from(["error", "truncate"]))
def test_an_encode_request_comes_back(texts: Any, truncation: Any) -> None:
    sent = wire.encode_request("m", texts, truncation).SerializeToString()
    query = wire.encode_query(pb.EncodeRequest.FromString(sent))
    assert len(texts) == len(query.texts)
    assert all(same(*pair) for pair in zip(texts, query.texts, strict=True))
    assert query.truncation == truncation


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_stream_chunk_comes_back_with_ids_and_statuses(dtype: Any) -> None:
    rows = np.array([[[1.5, 2.0]], [[np.nan, np.nan]]], dtype)
    status = (ItemStatus.OK, ItemStatus.FAILED)
    sent = wire.stream_response(("a", "b"), rows, status, ("", "too long"), "f").SerializeToString()
    first, second = wire.stream_results(pb.EncodeStreamResponse.FromString(sent))
    assert isinstance(first, EncodedText)
    assert (first.id, first.status, first.message) == ("a", ItemStatus.OK, "")
    assert (second.id, second.status, second.message) == ("b", ItemStatus.FAILED, "too long")
    assert first.embeddings.dtype == dtype
    assert first.embeddings.tolist() == [[1.5, 2.0]]
    assert np.isnan(second.embeddings).all()


@QUICK
@given(DESCRIPTIONS)
def test_a_description_comes_back(model: ModelDescription) -> None:
    sent = wire.description_message(model).SerializeToString()
    assert wire.description_value(pb.ModelDescription.FromString(sent)) == model


def test_items_of_one_form_travel_as_a_column() -> None:
    columns = {
        "texts": ["a", "b"],
        "keys": [Key("a"), Key("b")],
        "embeddings": [np.zeros((1, 2), np.float16)] * 2,
        "token_ids": [[1], np.array([2, 3])],
        "mixed": ["a", Key("b")],
    }
    for form, items in columns.items():
        request = wire.score_request("", "p", items, "error", "skip")
        assert request.items.WhichOneof("form") == form


def test_an_array_of_all_embeddings_is_the_same_as_a_list_of_them() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    whole = wire.score_request("", "p", array, "error", "skip")
    assert whole == wire.score_request("", "p", list(array), "error", "skip")


def test_float64_and_big_endian_arrays_arrive_as_little_endian_singles() -> None:
    for dtype in (">f4", "f8", ">f8"):
        request = wire.score_request("", "p", [np.array([[1.5]], dtype)], "error", "skip")
        assert request.items.embeddings.data == b"\x00\x00\xc0\x3f"
    # Beyond them it is infinite, which a server refuses by its place; numpy's warning was what a caller saw.
    request = wire.score_request("", "p", [np.array([[1e300, -1e300]])], "error", "skip")
    assert np.frombuffer(request.items.embeddings.data, "<f4").tolist() == [math.inf, -math.inf]


def test_unset_options_are_the_documented_defaults() -> None:
    query = wire.score_query(pb.ScoreRequest(prefix=pb.Prefix(text="p"), items=pb.Items(texts=pb.Strings())))
    assert (query.truncation, query.on_missing, len(query.items)) == ("error", "skip", 0)


def test_what_there_is_nothing_to_say_of_takes_no_room_on_the_wire() -> None:
    count = 1000
    result = ScoreResult(
        scores=np.zeros(count, np.float32),
        logits=np.zeros((count, 1), np.float32),
        status=(ItemStatus.OK,) * count,
        messages=("",) * count,
        usage=Usage(0, 0, 0, 0.0, 0.0, 0.0),
        fingerprint="f",
        score_kind="probability",
        read_out="softmax over yes, no: yes",
    )
    assert not wire.score_response(result).outcomes
    assert len(wire.score_response(result).SerializeToString()) < 8 * count + 100
