"""What does not fit the wire is refused with the field, the item's index and the offending value."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import EncodeError

from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.protos.messages import class_wire, generate_wire, search_wire, set_wire, tag_wire, wire
from rankport.protos.messages.wire_parts import one_message
from rankport.protos.v1 import rankport_pb2 as pb

ZEROS = pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[2, 1, 1], data=bytes(8))


def request(**items: Any) -> pb.ScoreRequest:
    return pb.ScoreRequest(prefix=pb.Prefix(text="p"), items=pb.Items(**items))


def tensor(dtype: int = pb.DTYPE_FLOAT32, shape: Any = (2, 1, 1), data: bytes = bytes(8)) -> pb.Tensor:
    return pb.Tensor(dtype=dtype, shape=shape, data=data)


def mixed(*items: pb.Item) -> pb.ScoreRequest:
    return request(mixed=pb.MixedItems(items=items))


def ragged(ids: Any, lengths: Any) -> pb.ScoreRequest:
    return request(token_ids=pb.RaggedTokenIds(ids=ids, lengths=lengths))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (pb.ScoreRequest(items=pb.Items(texts=pb.Strings())), "prefix is not set"),
        (pb.ScoreRequest(prefix=pb.Prefix(text="p")), "items is not set"),
        (mixed(pb.Item(text="a"), pb.Item()), r"items\[1\] is not set"),
        (request(embeddings=tensor(dtype=0)), r"items.embeddings.dtype is 0; .*1 \(float32\), 2 \(float16\)"),
        (request(embeddings=tensor(dtype=77)), "items.embeddings.dtype is 77"),
        (request(embeddings=tensor(data=bytes(7))), r"has 7 bytes; shape \[2, 1, 1\] of float32 takes 8"),
        (request(embeddings=tensor(shape=(-2, -1, 1))), r"items.embeddings.shape is \[-2, -1, 1\]"),
        (request(embeddings=tensor(shape=(2**62, 1, 1))), "takes 18446744073709551616"),
        (request(embeddings=tensor(shape=(2, 2**31, 1))), "a row has at most 2147483647 values"),
        (request(embeddings=tensor(shape=(2**22, 0, 384), data=b"")), "4194304 rows without values"),
        (request(embeddings=tensor(shape=(2**40, 0, 384), data=b"")), "1099511627776 rows without values"),
        (request(embeddings=tensor(shape=(0, 2**40, 2**40), data=b"")), "a row has at most"),
        (request(embeddings=tensor(shape=[1] * 2**20, data=bytes(4))), "has 1048576 axes; the most are 4"),
        (request(embeddings=tensor(shape=(2, 1))), r"shape is \[2, 1\]; expected \[items, k, hidden\]"),
        (mixed(pb.Item(embeddings=tensor(data=b""))), r"items\[0\].embeddings.data has 0 bytes"),
        (ragged([1, 2], [1]), "lengths add up to 1 but .* holds 2"),
        (ragged([1, 2], [3, -1]), r"lengths\[1\] is -1"),
    ],
)
def test_a_malformed_request_is_refused(message: pb.ScoreRequest, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        wire.score_query(pb.ScoreRequest.FromString(message.SerializeToString()))


@pytest.mark.parametrize(("option", "code"), [("truncation", 9), ("on_missing", 9)])
def test_an_option_of_a_newer_version_is_refused(option: str, code: int) -> None:
    message = request(texts=pb.Strings())
    setattr(message, option, code)
    with pytest.raises(InvalidRequest, match=f"{option} is {code}; this version knows"):
        wire.score_query(message)


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ("one text", "items is a str; give a list"),
        ({"a": "b"}, "items is a dict; give a list"),
        (["a", 3], "item 1 is an int; give text, token ids"),
        (["a", b"bytes"], "item 1 is a bytes; give text"),
        (["a", np.array(["x"])], "item 1 is an array of <U1"),
        ([[1], [0.5, 1.0]], "item 1: token id 0.5 at position 0 is a float"),
        ([[1], [True]], "item 1: token id True at position 0 is a bool"),
        ([[1], [2**70]], "item 1: token id 1180591620717411303424 at position 0 .* more than 64 bits"),
        ([[1], np.zeros((2, 2), np.int64)], r"item 1: an array of dtype int64 and shape \[2, 2\]"),
        (["a", [0.5]], "item 1: token id 0.5 at position 0"),
        (["a", "\ud800"], "item 1: .* is half of a character"),
        ([np.zeros((1, 2), np.complex64)], "item 0 is an array of complex64"),
    ],
)
def test_an_item_that_fits_no_form_is_refused_by_its_index(items: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        wire.score_request("", "p", items, "error", "skip")


def test_a_tensor_of_a_dtype_that_the_wire_lacks_is_refused() -> None:
    with pytest.raises(
        InvalidRequest, match="embeddings is an array of int32; give float16, float32 or float64"
    ):
        wire.encode_response(np.zeros((1, 1, 1), np.int32), "f")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        (7, "prefix is an int"),
        (b"x", "prefix is a bytes"),
        ({"query": 7}, "prefix field 'query' is an int; give text"),
        ([1, "a"], "prefix: token id 'a' at position 1 is a str"),
    ],
)
def test_a_prefix_that_fits_no_form_is_refused(prefix: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        wire.score_request("", prefix, ["a"], "error", "skip")


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="truncation is 'cut'; give one of error, truncate"):
        wire.score_request("", "p", ["a"], "cut", "skip")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="on_missing is 'drop'; give one of skip, fail"):
        wire.score_request("", "p", ["a"], "error", "drop")  # type: ignore[arg-type]


@pytest.mark.parametrize("items", [pb.Items(keys=pb.Strings(values=["a"])), pb.Items(embeddings=ZEROS)])
def test_an_encoder_takes_neither_keys_nor_embeddings(items: pb.Items) -> None:
    with pytest.raises(InvalidRequest, match=r"texts\[0\] is neither text nor token ids"):
        wire.encode_query(pb.EncodeRequest(texts=items))


def test_a_response_whose_parts_disagree_is_refused() -> None:
    scores = tensor(shape=[2])
    logits = tensor(shape=[2, 1])
    whole: dict[str, Any] = {"scores": scores, "logits": logits}
    wire.score_result(pb.ScoreResponse(**whole))
    for field, value, says in [
        ("logits", tensor(shape=[1, 2]), "2 scores and 1 row of logits"),
        ("outcomes", [pb.ItemOutcome(index=1)], "status 0 is unknown"),
        ("scores", logits, "scores is float32 with 2 axes; expected float32 with 1"),
        (
            "outcomes",
            [pb.ItemOutcome(index=2, status=pb.ITEM_STATUS_OK)],
            "outcomes name item 2, but there are 2",
        ),
    ]:
        with pytest.raises(InvalidRequest, match=says):
            wire.score_result(pb.ScoreResponse(**(whole | {field: value})))


def test_a_request_that_no_message_holds_is_over_a_limit() -> None:
    """protobuf's own error of 2 GiB came through, and ended a stream in the place of one of its calls."""

    @one_message
    def write() -> None:
        raise EncodeError("Failed to serialize proto")

    with pytest.raises(LimitExceeded, match="over 2 GiB, which no message holds: send fewer items"):
        write()
    modules = (class_wire, generate_wire, search_wire, set_wire, tag_wire, wire)
    writers = {
        name: function
        for module in modules
        for name, function in vars(module).items()
        if name.endswith("_request")
    }
    assert len(writers) == 9
    assert all(hasattr(function, "__wrapped__") for function in writers.values())
