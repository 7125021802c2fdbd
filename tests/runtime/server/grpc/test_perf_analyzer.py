"""Calls of Triton's perf_analyzer as its source makes them, one after the other, by the unmodified client of Triton."""

import struct
from typing import Any

import grpc
import pytest
from tritonclient import grpc as triton

from rankport.protos.kserve import kserve_pb2 as pb
from support.servers.serving import serving

CALLS = 8


def contents(*values: str) -> bytes:
    """Writes texts as raw contents: each behind its length."""
    return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)


def infer_request(outputs: list[str], id: str) -> pb.ModelInferRequest:
    """Makes what its gRPC client sends: all outputs by name, raw contents, and the flag of streams."""
    request = pb.ModelInferRequest(
        model_name="ranker", model_version="1", id=id, raw_input_contents=[contents("q"), contents("a", "b")]
    )
    for name, rows in (("prefix", 1), ("items", 2)):
        request.inputs.add(name=name, datatype="BYTES", shape=[rows])
    for name in outputs:
        request.outputs.add(name=name)
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    return request


def window(client: Any) -> Any:
    """Reads the statistics between which it measures."""
    (statistics,) = client.get_inference_statistics("ranker", "1").model_stats
    return statistics


def test_its_calls_are_answered_and_counted() -> None:
    with serving() as served, triton.InferenceServerClient(served.address) as client:
        metadata = client.get_model_metadata("ranker", as_json=True)
        config = client.get_model_config("ranker", as_json=True)["config"]
        assert "max_batch_size" not in config  # 0: no axis of a batch before the shapes
        assert all(each["optional"] for each in config["input"] if each["name"] not in ("prefix", "items"))
        assert "statistics" in client.get_server_metadata(as_json=True)["extensions"]
        outputs = [each["name"] for each in metadata["outputs"]]
        before = window(client)
        with grpc.insecure_channel(served.address) as channel:
            infer = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                pb.ModelInferRequest.SerializeToString,
                pb.ModelInferResponse.FromString,
            )
            calls = [infer.future(infer_request(outputs, str(number))) for number in range(CALLS)]
            answers = [call.result() for call in calls]
        after = window(client)
    assert [answer.id for answer in answers] == [str(number) for number in range(CALLS)]
    assert all([each.name for each in answer.outputs] == outputs for answer in answers)
    assert after.inference_count - before.inference_count == CALLS
    assert after.execution_count - before.execution_count == CALLS
    for phase in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        old, new = getattr(before.inference_stats, phase), getattr(after.inference_stats, phase)
        assert new.count - old.count == CALLS, phase
        assert new.ns > old.ns, phase


def test_other_parameters_of_tritons_are_told_by_name() -> None:
    with serving() as served, triton.InferenceServerClient(served.address) as client:
        tensor = triton.InferInput("prefix", [1], "BYTES")
        with pytest.raises(Exception, match="parameter 'timeout' is unknown; there are truncation"):
            client.infer("ranker", [tensor], timeout=1000)
