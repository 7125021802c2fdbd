"""Calls of a running server as its metrics, its log and the client's trailers show them."""

import logging
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from rankport.protos.errors import Overloaded
from rankport.protos.kserve import kserve_pb2 as kserve_pb
from rankport.protos.messages import wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.observing.config import ObservingConfig
from support.servers.http import ask
from support.servers.serving import Serving, serving

CONFIG = ServerConfig(port=0, grace_s=5.0, observing=ObservingConfig(metrics_port=0, log_requests=1.0))


@pytest.fixture
def served() -> Iterator[Serving]:
    with serving(CONFIG) as running:
        yield running


@pytest.fixture
def stub(served: Serving) -> Iterator[pb_grpc.ScoringStub]:
    with grpc.insecure_channel(served.address) as channel:
        yield pb_grpc.ScoringStub(channel)


def request(model: str = "") -> pb.ScoreRequest:
    return wire.score_request(model, "a secret query", ["a secret item"], "error", "skip")


def metrics(served: Serving) -> dict[tuple[str, ...], float]:
    """Values by name and the values of labels, these in the order of their names."""
    page = urllib.request.urlopen(f"http://127.0.0.1:{served.server.metrics_port}/metrics", timeout=10)
    assert page.headers["Content-Type"].startswith("text/plain")
    families = text_string_to_metric_families(page.read().decode())
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def test_calls_are_counted_by_method_model_and_status(served: Serving, stub: pb_grpc.ScoringStub) -> None:
    for _ in range(3):
        stub.Score(request())
    served.ranker.refuse_with = Overloaded("full")
    for model in ("ranker", "none-of-that-name"):
        with pytest.raises(grpc.RpcError):
            stub.Score(request(model))
    seen = metrics(served)
    calls = {key[1:]: value for key, value in seen.items() if key[0] == "rankport_calls_total"}
    assert calls == {
        ("OK", "grpc", "Scoring.Score", "ranker@1"): 3,
        ("RESOURCE_EXHAUSTED", "grpc", "Scoring.Score", "ranker@1"): 1,
        ("NOT_FOUND", "grpc", "Scoring.Score", ""): 1,  # a client's word is no label
    }
    assert seen["rankport_overloads_total",] == 1
    assert seen["rankport_call_seconds_count", "Scoring.Score", "ranker@1"] == 4
    assert seen["rankport_phase_seconds_count", "ranker@1", "tokenize"] == 4
    assert seen["rankport_model_serving", "encoder@1"] == 1
    assert seen["rankport_pending_requests",] == 0


def test_a_request_keeps_its_clients_name_to_the_end(served: Serving, stub: pb_grpc.ScoringStub) -> None:
    named = (("x-request-id", "order-17"),)
    _, call = stub.Score.with_call(request(), metadata=named)
    assert dict(call.trailing_metadata())["x-request-id"] == "order-17"
    with pytest.raises(grpc.RpcError) as raised:
        stub.Score(request("none"), metadata=named)
    failed: Any = raised.value
    assert dict(failed.trailing_metadata())["x-request-id"] == "order-17"


@pytest.mark.parametrize("given", [(), (("x-request-id", "two words"),), (("x-request-id", "x" * 129),)])
def test_a_request_without_a_good_name_gets_one(stub: pb_grpc.ScoringStub, given: Any) -> None:
    calls = [stub.Score.with_call(request(), metadata=given)[1] for _ in range(2)]
    ids = [dict(call.trailing_metadata())["x-request-id"] for call in calls]
    assert all(len(each) == 16 for each in ids)
    assert ids[0] != ids[1]


def test_the_line_of_a_request_says_what_it_cost_and_never_what_it_said(
    served: Serving, stub: pb_grpc.ScoringStub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stub.Score(request(), metadata=(("x-request-id", "order-18"),))
    served.server.stop()
    (line,) = [record for record in caplog.records if record.name == "rankport.requests"]
    fields: dict[str, Any] = line.__dict__["fields"]
    assert (fields["request_id"], fields["method"], fields["model"]) == (
        "order-18",
        "Scoring.Score",
        "ranker@1",
    )
    assert (fields["code"], fields["front"], fields["bytes"]) == ("OK", "grpc", request().ByteSize())
    # As the deterministic ranker tells them.
    assert (fields["queue_ms"], fields["compute_ms"], fields["item_tokens"]) == (500.0, 750.0, 1)
    assert "secret" not in caplog.text


def test_metrics_have_no_other_page(served: Serving) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{served.server.metrics_port}/", timeout=10)


def test_a_stuck_model_is_not_serving_and_the_others_and_the_list_answer() -> None:
    config = ServerConfig(port=0, grace_s=5.0, observing=ObservingConfig(stuck_pass_s=1.0))
    with serving(config) as served, grpc.insecure_channel(served.address) as channel:
        served.ranker.silent_s = 5.0
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="ranker"), timeout=30)
        states = (update.status for update in watch)
        assert next(state for state in states if state == health_pb2.HealthCheckResponse.NOT_SERVING)
        fine = health.Check(health_pb2.HealthCheckRequest(service="encoder"))
        assert fine.status == health_pb2.HealthCheckResponse.SERVING
        ready = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelReady",
            kserve_pb.ModelReadyRequest.SerializeToString,
            kserve_pb.ModelReadyResponse.FromString,
        )
        asked = [ready(kserve_pb.ModelReadyRequest(name=name)).ready for name in ("ranker", "encoder")]
        assert asked == [False, True]
        assert len(pb_grpc.ModelsStub(channel).List(pb.ListModelsRequest()).models) == 2
        served.ranker.silent_s = 0.0
        assert next(state for state in states if state == health_pb2.HealthCheckResponse.SERVING)
        watch.cancel()


def test_the_line_of_pairs_says_what_all_their_queries_cost(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with serving(replace(CONFIG, http_port=0)) as running:
        ask(running.server.http_address, "/score", {"text_1": ["a", "b"], "text_2": ["c", "d"]})
    (line,) = [record for record in caplog.records if record.name == "rankport.requests"]
    fields: dict[str, Any] = line.__dict__["fields"]
    assert (fields["queue_ms"], fields["compute_ms"], fields["item_tokens"]) == (1000.0, 1500.0, 2)
