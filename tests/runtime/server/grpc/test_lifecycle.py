"""Start, health, reflection, model selection and the graceful stop."""

import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from rankport.protos.errors import InvalidRequest, Unavailable
from rankport.protos.messages import wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.kinds.capabilities import Model
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.server import Server
from rankport.sdk import Client
from support.servers.deterministic_models import DeterministicRanker
from support.servers.serving import LOCAL, Serving, serving

UNGUARDED = SecurityConfig(insecure_public=True)

REQUEST = wire.score_request("", "query", ["a"], "error", "skip")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def served() -> Iterator[Serving]:
    with serving() as running:
        yield running


@pytest.fixture
def channel(served: Serving) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.address) as channel:
        yield channel


def health_of(channel: grpc.Channel, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return int(health_pb2_grpc.HealthStub(channel).Check(request).status)


def test_health_is_reported_overall_per_model_and_per_service(channel: grpc.Channel) -> None:
    services = ("rankport.v1.Scoring", "rankport.v1.Embedding", "rankport.v1.Models")
    for name in ("", "ranker", "encoder", *services):
        assert health_of(channel, name) == SERVING
    with pytest.raises(grpc.RpcError) as raised:
        health_of(channel, "other")
    error: Any = raised.value
    assert error.code() is grpc.StatusCode.NOT_FOUND


def test_a_model_whose_engine_stopped_no_longer_counts_as_serving(
    served: Serving, channel: grpc.Channel
) -> None:
    watch = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service="ranker"), timeout=20
    )
    assert next(watch).status == SERVING
    served.ranker.worker.alive = False
    assert next(watch).status == NOT_SERVING
    watch.cancel()
    assert health_of(channel, "") == NOT_SERVING
    assert health_of(channel, "rankport.v1.Scoring") == NOT_SERVING
    assert health_of(channel, "encoder") == SERVING


def test_reflection_lists_every_service_and_describes_ours(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="rankport.v1.Scoring"),
    ]
    listed, described = stub.ServerReflectionInfo(iter(requests))
    assert {service.name for service in listed.list_services_response.service} == {
        "rankport.v1.Scoring",
        "rankport.v1.Embedding",
        "rankport.v1.Classification",
        "rankport.v1.Generation",
        "rankport.v1.SetRanking",
        "rankport.v1.Tagging",
        "rankport.v1.Models",
        "rankport.v1.Jobs",
        "rankport.v1.ModelAdmin",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
    }
    files = described.file_descriptor_response.file_descriptor_proto
    assert any(b"rankport/protos/v1/rankport.proto" in file for file in files)


def test_models_are_listed_by_the_names_they_are_served_by() -> None:
    models = {"b": DeterministicRanker("own-name"), "a": DeterministicRanker("own-name")}
    with Server(models, LOCAL) as server, grpc.insecure_channel(server.address) as channel:  # type: ignore[arg-type]
        stub = pb_grpc.ModelsStub(channel)
        assert [model.name for model in stub.List(pb.ListModelsRequest()).models] == ["a", "b"]
        assert stub.Describe(pb.DescribeModelRequest(model="b")).name == "b"
        for request, says in [("", "names no model that scores, and this server has a, b"), ("c", "'c'")]:
            with pytest.raises(grpc.RpcError, match=says):
                pb_grpc.ScoringStub(channel).Score(
                    pb.ScoreRequest(model=request, prefix=REQUEST.prefix, items=REQUEST.items)
                )
    for model in models.values():
        model.close()


def test_a_server_needs_models_with_names() -> None:
    ranker = DeterministicRanker()
    for models in ({}, {"": ranker}):
        with pytest.raises(InvalidRequest, match="give at least one, each with a name"):
            Server(models, LOCAL)  # type: ignore[arg-type]
    ranker.close()


def test_a_port_in_use_is_an_error_at_start(served: Serving) -> None:
    taken = ServerConfig(port=served.server.port)
    second = Server({"ranker": served.ranker}, taken)  # type: ignore[dict-item]
    with pytest.raises(Unavailable, match=f"on 127.0.0.1:{taken.port}: Address already in use; choose"):
        second.start()
    second.stop()


def test_a_host_that_does_not_exist_is_an_error_at_start(served: Serving) -> None:
    config = ServerConfig(host="192.0.2.1", port=0, security=UNGUARDED)
    lost = Server({"ranker": served.ranker}, config)  # type: ignore[dict-item]
    with pytest.raises(Unavailable, match=r"cannot listen on 192.0.2.1:0: Cannot assign requested address"):
        lost.start()
    lost.stop()


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "::1", "[::1]"])
def test_a_server_listens_on_any_form_of_host(served: Serving, host: str) -> None:
    if "::" in host and not _has_ipv6():
        pytest.skip("no IPv6 on this machine")
    config = ServerConfig(host=host, port=0, security=UNGUARDED)
    models: Any = {"ranker": served.ranker}
    with Server(models, config) as server, Client(server.address, timeout_s=10) as client:
        assert client.models() == server.models


@pytest.mark.parametrize(
    ("field", "value"), [("port", 70_000), ("max_pending_calls", 0), ("grace_s", -1.0), ("stream_window", 0)]
)
def test_a_setting_out_of_range_is_an_error(field: str, value: float) -> None:
    with pytest.raises(InvalidRequest, match=f"{field} is {value}"):
        ServerConfig(**{field: value})  # type: ignore[arg-type]


def test_a_stop_finishes_what_is_in_flight_and_refuses_what_is_new(
    served: Serving, channel: grpc.Channel
) -> None:
    stub = pb_grpc.ScoringStub(channel)
    served.ranker.worker.gate.clear()
    in_flight = stub.Score.future(REQUEST)
    assert served.ranker.worker.arrived.acquire(timeout=10)
    stopping = threading.Thread(target=served.server.stop, daemon=True)
    stopping.start()
    while health_of(channel, "ranker") == SERVING:  # the first sign of a stop
        pass
    assert health_of(channel, "") == NOT_SERVING
    with pytest.raises(grpc.RpcError) as refused:
        stub.Score(REQUEST)
    error: Any = refused.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "stopping" in error.details()
    assert not in_flight.done()
    served.ranker.worker.gate.set()
    assert len(wire.score_result(in_flight.result(timeout=10)).scores) == 1
    stopping.join(timeout=10)
    assert not stopping.is_alive()
    counts = served.server.counts.snapshot()
    assert (counts[Outcome.ANSWERED], counts[Outcome.REJECTED]) == (1, 1)


def test_a_stop_cuts_off_what_is_not_done_within_its_grace(served: Serving, channel: grpc.Channel) -> None:
    served.ranker.worker.gate.clear()
    in_flight = pb_grpc.ScoringStub(channel).Score.future(REQUEST)
    assert served.ranker.worker.arrived.acquire(timeout=10)
    served.server.stop(grace_s=0.05)
    with pytest.raises(grpc.RpcError) as raised:
        in_flight.result(timeout=10)
    error: Any = raised.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert served.ranker.worker.cancelled.acquire(timeout=60)
    served.ranker.worker.gate.set()
    served.ranker.worker.close()
    assert (served.ranker.worker.computed, served.ranker.worker.dropped) == (0, 1)


def test_a_lame_duck_answers_while_its_health_says_that_it_goes() -> None:
    config = ServerConfig(port=0, lame_duck_s=1.0)
    with serving(config) as served, grpc.insecure_channel(served.address) as channel:
        stopping = threading.Thread(target=served.server.stop, daemon=True)
        stopping.start()
        while health_of(channel, "ranker") == SERVING:
            pass
        stub = pb_grpc.ScoringStub(channel)
        assert len(wire.score_result(stub.Score(REQUEST, timeout=10)).scores) == 1
        ready = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
        assert ready(b"", timeout=10) == b""  # ready: false
        stopping.join(timeout=30)
        assert not stopping.is_alive()


def test_a_stop_under_load_answers_or_refuses_and_cancels_nothing() -> None:
    ends: set[grpc.StatusCode] = set()

    def hammer(address: str) -> None:
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = pb_grpc.ScoringStub(channel)
            while grpc.StatusCode.UNAVAILABLE not in (last := burst(stub)):
                ends.update(last)
            ends.update(last, burst(stub))

    def burst(stub: pb_grpc.ScoringStub) -> set[grpc.StatusCode]:
        futures: list[Any] = [stub.Score.future(REQUEST, timeout=20) for _ in range(8)]
        return {future.code() for future in futures}

    with serving() as served:
        threads = [threading.Thread(target=hammer, args=(served.address,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert served.ranker.worker.arrived.acquire(timeout=10)
        served.server.stop()
        for thread in threads:
            thread.join(timeout=30)
    assert ends == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


def test_a_health_watch_does_not_hold_up_a_stop(served: Serving, channel: grpc.Channel) -> None:
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
    assert next(watch).status == SERVING
    served.server.stop(grace_s=3600)  # no test waits for it


def test_a_stop_before_the_start_and_a_second_stop_do_nothing() -> None:
    ranker = DeterministicRanker()
    server = Server({"ranker": ranker}, LOCAL)  # type: ignore[dict-item]
    server.stop()
    server.start()
    server.stop()
    server.stop()
    ranker.close()


def test_threads_give_way_soon_while_it_serves_and_as_before_when_it_stopped() -> None:
    before = sys.getswitchinterval()
    with Server({"ranker": DeterministicRanker()}, ServerConfig(port=0)) as server:
        assert sys.getswitchinterval() == pytest.approx(2e-4)
        server.stop()
        assert sys.getswitchinterval() == before
    with Server({"ranker": DeterministicRanker()}, ServerConfig(port=0, switch_interval_s=None)):
        assert sys.getswitchinterval() == before
    assert sys.getswitchinterval() == before


def test_threads_give_way_soon_until_the_last_server_of_a_process_stopped() -> None:
    before, models = sys.getswitchinterval(), {"ranker": cast(Model, DeterministicRanker())}
    first, second = (Server(models, LOCAL).start() for _ in range(2))
    first.stop()
    assert sys.getswitchinterval() == pytest.approx(2e-4)
    second.stop()
    assert sys.getswitchinterval() == before
