"""Messages that nobody of ours wrote: they are read or refused as malformed, and cost no more than their bytes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import InvalidRequest
from rankport.protos.messages import class_wire, set_wire, tag_wire, wire
from rankport.protos.messages.request_size import request_size
from rankport.protos.messages.tensors import tensor_array
from rankport.protos.sets import SetQuery
from rankport.protos.tagging import TagTexts
from rankport.protos.types import Key
from rankport.protos.v1 import rankport_pb2 as pb
from support.effort import scale
from support.servers.edits import EDITS, edited

TEXTS = TagTexts.of(["New York", "x"])
READERS: dict[type[Any], Callable[[Any], Any]] = {
    pb.ScoreRequest: wire.score_query,
    pb.EncodeRequest: wire.encode_query,
    pb.ClassifyRequest: class_wire.classify_query,
    pb.TagRequest: tag_wire.tag_query,
    pb.RankRequest: set_wire.rank_query,
    pb.RankResponse: set_wire.set_ranking,
    pb.ScoreResponse: wire.score_result,
    pb.EncodeStreamResponse: wire.stream_results,
    pb.ClassifyResponse: class_wire.classify_result,
    pb.TagResponse: lambda response: tag_wire.tag_result(response, TEXTS),
}
SETS = SetQuery.of(
    {"id": [1, 2]},
    {"id": [3], "unsigned": [2**64 - 1], "key": ["k"], "v": [[0.5]]},
    {"like": 1.0},
    times=[1, 2],
    now=3,
)
TENSOR = pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[2, 1], data=bytes(8))
LINE = pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[2], data=bytes(8))
SEEDS = [
    wire.score_request("m", "q", ["a", "b"], "error", "skip", np.ones((2, 3), np.float32)),
    wire.score_request("m", [1, 2], [[1, 2], [3]], "truncate", "fail"),
    wire.score_request("m", {"query": "q"}, np.ones((2, 1, 3), np.float16), "error", "skip"),
    wire.score_request("m", "q", ["a", [1], Key("k"), np.ones((1, 3), np.float32)], "error", "skip"),
    wire.encode_request("m", ["a", [1]], "error", "query"),
    class_wire.classify_request("m", [("a", "b"), ("c", "d")], None, "error"),
    tag_wire.tag_request("m", [["New", "York"], ["x"]], "windows", 3),
    set_wire.rank_request("m", SETS),
    pb.RankResponse(scores=LINE, head_scores=TENSOR, heads=["click"], order=[1]),
    pb.ScoreResponse(scores=LINE, logits=TENSOR, outcomes=[pb.ItemOutcome(index=1, status=2)]),
    pb.EncodeStreamResponse(embeddings=pb.Tensor(dtype=1, shape=[2, 1, 1], data=bytes(8)), ids=["a", "b"]),
    pb.ClassifyResponse(probabilities=TENSOR, logits=TENSOR, labels=["x"]),
    pb.TagResponse(counts=[1, 1], starts=[0, 0], ends=[3, 1], labels=[0, 0], names=["x"], scores=LINE),
]
SIZES = st.one_of(st.integers(-2, 4), st.sampled_from([2**22, 2**31, 2**40, 2**62, -(2**63)]))
QUICK = settings(max_examples=scale(300))


@QUICK
@given(st.sampled_from(SEEDS), EDITS)
def test_any_message_is_read_or_refused(seed: Any, edits: list[tuple[int, int, str]]) -> None:
    try:
        message = type(seed).FromString(edited(seed.SerializeToString(), edits))
        result = READERS[type(seed)](message)
    except (DecodeError, InvalidRequest):
        return
    if type(seed) in (pb.ScoreRequest, pb.EncodeRequest, pb.ClassifyRequest, pb.TagRequest):
        read = len(result.items if isinstance(result, wire.ScoreQuery) else result.texts)
        assert read == request_size(message).items <= message.ByteSize()


@QUICK
@given(st.lists(SIZES, max_size=5), st.sampled_from([0, 1, 2, 9]), st.integers(0, 24))
def test_a_shape_is_that_of_its_bytes_or_refused(shape: list[int], dtype: Any, nbytes: int) -> None:
    tensor = pb.Tensor(dtype=dtype, shape=shape, data=bytes(nbytes))
    try:
        array = tensor_array(tensor, "field")
    except InvalidRequest:
        return
    assert list(array.shape) == shape
    assert array.nbytes == nbytes
    assert not shape or len(array) <= nbytes


@pytest.mark.parametrize("shape", [[0, 0, 2**62], [0, 2**62, 0], [0, 2**31 - 1, 0, 2**31 - 1]])
def test_a_size_beside_one_of_zero_is_limited_too(shape: list[int]) -> None:
    with pytest.raises(InvalidRequest, match="a row has at most 2147483647 values"):
        tensor_array(pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=shape), "field")


@QUICK
@given(st.lists(SIZES, max_size=5), st.integers(0, 5))
def test_lengths_and_counts_add_up_or_are_refused(lengths: list[int], values: int) -> None:
    good = min(lengths, default=0) >= 0 and sum(lengths) == values
    ids = pb.RaggedTokenIds(ids=range(values), lengths=lengths)
    words = pb.RaggedWords(words=["w"] * values, counts=lengths)
    requests = [
        pb.ScoreRequest(prefix=pb.Prefix(text="q"), items=pb.Items(token_ids=ids)),
        pb.TagRequest(words=words),
        pb.TagResponse(
            counts=lengths,
            starts=[0] * values,
            ends=[0] * values,
            labels=[0] * values,
            names=["x"],
            scores=pb.Tensor(dtype=1, shape=[values], data=bytes(4 * values)),
        ),
    ]
    readers: list[Callable[[Any], Any]] = [wire.score_query, tag_wire.tag_query]
    texts = TagTexts.of([""] * len(lengths))
    readers.append(lambda response: tag_wire.tag_result(response, texts))
    for request, read in zip(requests, readers, strict=True):
        try:
            read(request)
        except InvalidRequest:
            assert not good
        else:
            assert good
