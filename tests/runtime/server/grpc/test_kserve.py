"""KServe v2: the unmodified client of Triton against the port, and what a bad input is told."""

import json
import re
import struct
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2 as reflection
from hypothesis import given, settings
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from rankport.protos.errors import InvalidRequest
from rankport.protos.kserve import kserve_pb2 as pb
from rankport.protos.types import Key
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.kserve.tasks import TASKS
from rankport.runtime.server.kserve.tensors import Tensors
from rankport.runtime.server.observing.config import ObservingConfig
from support.effort import scale
from support.servers.deterministic_models import description
from support.servers.edits import EDITS, edited
from support.servers.serving import Serving, serving
from support.servers.statuses import refusal


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    with serving(ServerConfig(port=0, max_request_items=100)) as running:
        yield running


@pytest.fixture(scope="module")
def client(served: Serving) -> Iterator[Any]:
    with triton.InferenceServerClient(served.address) as client:
        yield client


@pytest.fixture(scope="module")
def infer(served: Serving) -> Iterator[Any]:
    """ModelInfer with messages as they are."""
    with grpc.insecure_channel(served.address) as channel:
        yield channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )


def texts(name: str, values: list[str]) -> Any:
    tensor = triton.InferInput(name, [len(values)], "BYTES")
    tensor.set_data_from_numpy(np.array([value.encode() for value in values], object))
    return tensor


def numbers(name: str, array: np.ndarray[Any, Any], datatype: str) -> Any:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def test_a_server_is_live_ready_and_described(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("ranker")
    assert client.is_model_ready("ranker", "1")
    metadata = client.get_server_metadata()
    assert metadata.name == "rankport"
    assert "statistics" in metadata.extensions


def test_metadata_and_configuration_name_the_tensors_of_each_model(client: Any) -> None:
    ranker, encoder = client.get_model_metadata("ranker"), client.get_model_metadata("encoder")
    assert [(each.name, each.datatype, list(each.shape)) for each in ranker.inputs] == [
        ("prefix", "BYTES", [1]),
        ("prefix_fields", "BYTES", [1]),
        ("items", "BYTES", [-1]),
        ("item_keys", "BYTES", [-1]),
        ("item_embeddings", "FP16", [-1, 1, 3]),
    ]
    assert [(each.name, list(each.shape)) for each in ranker.outputs] == [
        ("scores", [-1]),
        ("logits", [-1, 2]),
        ("status", [-1]),
    ]
    assert [(each.name, each.datatype, list(each.shape)) for each in encoder.outputs] == [
        ("embeddings", "FP16", [-1, 1, 3])
    ]
    config = client.get_model_config("encoder").config
    assert (config.name, config.max_batch_size, config.input[0].name) == ("encoder", 0, "texts")
    assert config.output[0].data_type == 10  # Triton's TYPE_FP16


def test_vectors_of_late_interaction_are_of_any_number_as_each_side_has_its_own() -> None:
    late = replace(description("late", "item-encoder"), kind="two-tower", embedding_tokens=14)
    [rows] = TASKS["encodes"].outputs(late)
    assert tuple(rows.shape) == (-1, -1, late.hidden_size)


@pytest.mark.parametrize(
    ("tensor", "items"),
    [
        (texts("items", ["a", "bé", ""]), ["a", "bé", ""]),
        (texts("item_keys", ["k", "missing"]), [Key("k"), Key("missing")]),
        (
            numbers("item_embeddings", np.ones((2, 1, 3), np.float16), "FP16"),
            np.ones((2, 1, 3), np.float16),
        ),
        (
            numbers("item_embeddings", np.ones((2, 1, 3), np.float32), "FP32"),
            np.ones((2, 1, 3), np.float32),
        ),
    ],
    ids=["texts", "keys", "float16", "float32"],
)
def test_scores_are_those_of_the_ranker(served: Serving, client: Any, tensor: Any, items: Any) -> None:
    expected = served.ranker.score("nurse", items)
    result = client.infer("ranker", [texts("prefix", ["nurse"]), tensor], request_id="7")
    np.testing.assert_array_equal(result.as_numpy("scores"), expected.scores)
    np.testing.assert_array_equal(result.as_numpy("logits"), expected.logits)
    assert [value.decode() for value in result.as_numpy("status")] == list(expected.status)
    response = result.get_response()
    assert response.id == "7"
    assert response.parameters["score_kind"].string_param == "logit"
    assert response.parameters["fingerprint"].string_param == expected.fingerprint


def test_the_example_of_the_page_runs(served: Serving) -> None:
    page = (Path(__file__).parents[4] / "docs" / "serving.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (example,) = [example for example in examples if "tritonclient" in example]
    names: dict[str, Any] = {}
    exec(example.replace("localhost:8500", served.address), names)
    names["client"].close()
    expected = served.ranker.score("resistance welder", ["spot welder", "nurse"]).scores
    np.testing.assert_array_equal(names["scores"], expected)


def test_fields_parameters_and_chosen_outputs_are_honoured(served: Serving, client: Any) -> None:
    fields = {"query": "nurse"}
    result = client.infer(
        "ranker",
        [texts("prefix_fields", [json.dumps(fields)]), texts("items", ["a"])],
        outputs=[triton.InferRequestedOutput("scores")],
        parameters={"truncation": "truncate", "on_missing": "fail"},
    )
    expected = served.ranker.score(fields, ["a"], truncation="truncate", on_missing="fail")
    np.testing.assert_array_equal(result.as_numpy("scores"), expected.scores)
    assert result.as_numpy("logits") is None


def test_embeddings_are_those_of_the_encoder(served: Serving, client: Any) -> None:
    result = client.infer("encoder", [texts("texts", ["a", "bc"])], parameters={"side": "query"})
    expected = served.encoder.encode(["a", "bc"], side="query")
    np.testing.assert_array_equal(result.as_numpy("embeddings"), expected)
    assert result.as_numpy("embeddings").dtype == np.float16


def test_typed_contents_are_read_as_raw_ones_are(served: Serving, infer: Any) -> None:
    request = pb.ModelInferRequest(model_name="ranker")
    for name, values in (("prefix", [b"nurse"]), ("items", [b"a", b"bc"])):
        request.inputs.add(name=name, datatype="BYTES", shape=[len(values)]).contents.bytes_contents.extend(
            values
        )
    response = infer(request)
    scores = np.frombuffer(response.raw_output_contents[0], "<f4")
    np.testing.assert_array_equal(scores, served.ranker.score("nurse", ["a", "bc"]).scores)


def raw_request(**inputs: tuple[str, list[int], bytes]) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="ranker")
    given = {"prefix": ("BYTES", [1], struct.pack("<I", 1) + b"q")} | inputs
    for name, (datatype, shape, raw) in given.items():
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(raw)
    return request


TEXT = struct.pack("<I", 1) + b"a"


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (raw_request(), "give one of them, none is given"),
        (raw_request(other=("BYTES", [1], TEXT)), "input 'other' is unknown; it takes prefix, prefix_fields"),
        (raw_request(items=("BYTES", [2], TEXT)), "'items': the raw text 1 at byte 5 is cut off"),
        (raw_request(items=("BYTES", [1], TEXT + TEXT)), "'items' has 10 raw bytes, and 5 with 1 text"),
        (raw_request(items=("BYTES", [1], b"\xff\xff\xff\xffa")), "is cut off"),
        (raw_request(items=("BYTES", [1], struct.pack("<I", 1) + b"\xff")), "text 0 is no valid UTF-8"),
        (raw_request(items=("BYTES", [1, 1], TEXT)), "'items' has 2 axes; give 1"),
        (raw_request(items=("BYTES", [-1], TEXT)), "a size is below 0"),
        (raw_request(items=("INT64", [1], TEXT)), "'items' is 'INT64'; give BYTES"),
        (raw_request(items=("BYTES", [101], TEXT)), "the request has 101 items, this server takes 100"),
        (raw_request(item_embeddings=("FP32", [2**40, 0, 3], b"")), "has 1099511627776 items"),
        (raw_request(item_embeddings=("FP32", [5, 0, 3], b"")), "rows have no values"),
        (raw_request(item_embeddings=("FP32", [1, 1, 3], b"")), "0 raw bytes, shape .* of FP32 takes 12"),
        (raw_request(prefix=("BYTES", [2], TEXT + TEXT), items=("BYTES", [1], TEXT)), "all items share one"),
        (raw_request(prefix_fields=("BYTES", [1], TEXT), items=("BYTES", [1], TEXT)), "both given"),
        (pb.ModelInferRequest(model_name="other"), "no model is named 'other'"),
        (pb.ModelInferRequest(model_name="ranker", model_version="9"), "has version '1', not '9'"),
        (pb.ModelInferRequest(model_name="ranker", raw_input_contents=[b""]), "0 inputs and 1 raw"),
    ],
)
def test_a_bad_input_is_told_by_name(infer: Any, request_: pb.ModelInferRequest, says: str) -> None:
    refused = refusal(lambda: infer(request_, timeout=10))
    assert refused.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    assert re.search(says, refused.message)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"parameters": {"truncation": "cut"}}, "'truncation' is 'cut'; give one of error, truncate"),
        ({"parameters": {"truncation": 3}}, "'truncation' is 3; give one of error, truncate"),
        ({"parameters": {"other": "x"}}, "parameter 'other' is unknown; there are truncation"),
        ({"outputs": [triton.InferRequestedOutput("embeddings")]}, "output 'embeddings' is unknown"),
        ({"outputs": [triton.InferRequestedOutput("scores")] * 2}, "output 'scores' is asked for twice"),
    ],
)
def test_an_unknown_option_is_told_to_the_client(client: Any, options: Any, says: str) -> None:
    with pytest.raises(InferenceServerException, match=says):
        client.infer("ranker", [texts("prefix", ["q"]), texts("items", ["a"])], **options)


def in_shared_memory(tensor: Any) -> Any:
    tensor.set_shared_memory("region", 10)
    return tensor


@pytest.mark.parametrize(
    ("items", "output", "says"),
    [
        (
            in_shared_memory(triton.InferInput("items", [1], "BYTES")),
            triton.InferRequestedOutput("scores"),
            "input 'items': parameter 'shared_memory_.*' is not taken; contents travel in the message",
        ),
        (
            texts("items", ["a"]),
            in_shared_memory(triton.InferRequestedOutput("scores")),
            "output 'scores': parameter 'shared_memory_.*' is not taken; answers are raw, in the message",
        ),
        (
            texts("items", ["a"]),
            triton.InferRequestedOutput("scores", class_count=3),
            "output 'scores': parameter 'classification' is not taken",
        ),
    ],
    ids=["input-in-shared-memory", "output-in-shared-memory", "classes"],
)
def test_a_parameter_of_a_tensor_is_refused_by_name(client: Any, items: Any, output: Any, says: str) -> None:
    with pytest.raises(InferenceServerException, match=says):
        client.infer("ranker", [texts("prefix", ["q"]), items], outputs=[output])


def test_what_kserves_client_says_of_raw_contents_must_be_so(served: Serving, infer: Any) -> None:
    request = raw_request(items=("BYTES", [1], TEXT))
    request.inputs[1].parameters["binary_data_size"].int64_param = len(TEXT)
    request.outputs.add(name="scores").parameters["binary_data"].bool_param = True
    scores = np.frombuffer(infer(request).raw_output_contents[0], "<f4")
    np.testing.assert_array_equal(scores, served.ranker.score("q", ["a"]).scores)
    request.inputs[1].parameters["binary_data_size"].int64_param = 4
    refused = refusal(lambda: infer(request, timeout=10))
    assert (
        refused.message == "input 'items': parameter 'binary_data_size' is 4, and its raw content has 5 bytes"
    )


def test_first_texts_are_told_of_a_classifier_that_reads_pairs_alone(served: Serving) -> None:
    single, pairs = served.encoder.describe(), served.ranker.describe()
    assert (single.prompt_fields, bool(pairs.prompt_fields)) == ((), True)
    inputs = TASKS["classifies"].inputs
    assert [spec.name for spec in inputs(single)] == ["texts"]
    assert [spec.name for spec in inputs(pairs)] == ["texts", "first_texts", "prefix", "prefix_fields"]


def test_statistics_count_what_was_inferred(served: Serving, client: Any) -> None:
    def of(name: str) -> Any:
        (statistics,) = client.get_inference_statistics(name).model_stats
        return statistics

    before = of("ranker")
    client.infer("ranker", [texts("prefix", ["q"]), texts("items", ["a"])])
    with pytest.raises(InferenceServerException):
        client.infer("ranker", [texts("prefix", ["q"])])
    after = of("ranker")
    assert after.inference_count - before.inference_count == 1
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert after.inference_stats.success.ns > before.inference_stats.success.ns
    for phase, seconds in (("compute_input", 0.25), ("queue", 0.5), ("compute_infer", 0.75)):
        old, new = getattr(before.inference_stats, phase), getattr(after.inference_stats, phase)
        assert (new.count - old.count, new.ns - old.ns) == (1, seconds * 1e9)
    assert {each.name for each in client.get_inference_statistics().model_stats} == {"ranker", "encoder"}


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_of_reflection_describe_it_by_its_name_on_the_wire(
    served: Serving, version: str
) -> None:
    service = f"grpc.reflection.{version}.ServerReflection"
    symbols = ["inference.GRPCInferenceService", "inference.ModelInferRequest", service, "rankport.v1.Models"]
    requests = [reflection.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols]
    with grpc.insecure_channel(served.address) as channel:
        reflect = channel.stream_stream(
            f"/{service}/ServerReflectionInfo",
            reflection.ServerReflectionRequest.SerializeToString,
            reflection.ServerReflectionResponse.FromString,
        )
        answers = list(reflect(iter(requests), timeout=10))
    assert [answer.WhichOneof("message_response") for answer in answers] == ["file_descriptor_response"] * 4
    (file,) = answers[0].file_descriptor_response.file_descriptor_proto
    assert b".inference.ModelInferRequest" in file
    assert b"rankport" not in file


@settings(max_examples=scale(200))
@given(EDITS)
def test_any_tensors_are_read_or_refused(edits: list[tuple[int, int, str]]) -> None:
    request = raw_request(items=("BYTES", [2], TEXT + TEXT), item_embeddings=("FP32", [1, 1, 3], bytes(12)))
    try:
        message = pb.ModelInferRequest.FromString(edited(request.SerializeToString(), edits))
        tensors = Tensors.of(message)
    except (DecodeError, InvalidRequest):
        return
    for name in tensors.by_name:
        for read in (tensors.texts, lambda name: tensors.array(name, ("FP32", "FP16", "INT64"), axes=3)):
            with suppress(InvalidRequest):
                assert len(read(name)) == tensors.claimed(name, axes=1) <= message.ByteSize()


def test_a_call_is_counted_for_its_model_as_any_other_is() -> None:
    config = ServerConfig(port=0, observing=ObservingConfig(metrics_port=0))
    with serving(config) as served, triton.InferenceServerClient(served.address) as client:
        client.infer("ranker", [texts("prefix", ["q"]), texts("items", ["a"])])
        url = f"http://127.0.0.1:{served.server.metrics_port}/metrics"
        lines = urllib.request.urlopen(url, timeout=10).read().decode().splitlines()
    (line,) = (line for line in lines if line.startswith("rankport_calls_total") and "ModelInfer" in line)
    assert 'model="ranker' in line
    assert line.endswith(" 1.0")
