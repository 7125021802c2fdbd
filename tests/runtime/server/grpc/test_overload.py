"""Overload: every call is answered or refused with a hint when to come again, and what describes the server answers."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rankport.protos import errors
from rankport.protos.messages import wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import Outcome
from support.effort import scale
from support.servers.serving import serving
from support.servers.statuses import refusal

REQUEST = wire.score_request("", "query", ["a"], "error", "skip")


def test_calls_by_the_thousand_at_once_are_answered_or_refused_with_a_hint() -> None:
    """Past 1,000 waiting calls gRPC's core would cancel some, past 3,000 all, and no service would see them."""
    calls = scale(1500)
    with serving(ServerConfig(port=0, max_pending_calls=1)) as served:
        served.ranker.worker.gate.clear()
        # A connection of its own for each 500: one has no more than its share open.
        channels = [
            grpc.insecure_channel(served.address, [("grpc.use_local_subchannel_pool", 1)])
            for _ in range(calls // 500)
        ]
        stubs = [pb_grpc.ScoringStub(channel) for channel in channels]
        pending = stubs[0].Score.future(REQUEST)
        assert served.ranker.worker.arrived.acquire(timeout=10)
        futures: list[Any] = [stubs[number % len(stubs)].Score.future(REQUEST) for number in range(calls)]
        refused = [future.exception() for future in futures]
        assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        hints = {"grpc-retry-pushback-ms", errors.ERROR_METADATA_KEY, "grpc-status-details-bin"}
        assert all(hints <= dict(error.trailing_metadata()).keys() for error in refused)
        served.ranker.worker.gate.set()
        assert len(wire.score_result(pending.result()).scores) == 1
        counts = served.server.counts.snapshot()
        assert (counts[Outcome.ANSWERED], counts[Outcome.REJECTED]) == (1, calls)
        for channel in channels:
            channel.close()


def test_a_full_server_still_says_what_it_is_and_how_it_is() -> None:
    config = ServerConfig(port=0, max_pending_calls=1)
    with serving(config) as served, grpc.insecure_channel(served.address) as channel:
        served.ranker.worker.gate.clear()
        pending = pb_grpc.ScoringStub(channel).Score.future(REQUEST)
        assert served.ranker.worker.arrived.acquire(timeout=10)
        refused = refusal(lambda: pb_grpc.ScoringStub(channel).Score(REQUEST, timeout=10))
        models = pb_grpc.ModelsStub(channel)
        assert len(models.List(pb.ListModelsRequest(), timeout=10).models) == 2
        assert models.Describe(pb.DescribeModelRequest(model="ranker"), timeout=10).name == "ranker"
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        served.ranker.worker.gate.set()
        pending.result()
    assert (refused.code, refused.name) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "Overloaded")
    assert refused.info.reason == "Overloaded"
    assert refused.retry_s is not None
    assert 0.02 < refused.retry_s < 8
    assert int(refused.trailers["grpc-retry-pushback-ms"]) == round(refused.retry_s * 1000)


def test_connections_over_the_limit_are_closed_and_later_ones_taken() -> None:
    own = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
    with serving(ServerConfig(port=0, max_connections=1)) as served:
        with grpc.insecure_channel(served.address, own) as channel:
            first = pb_grpc.ModelsStub(channel)
            first.List(pb.ListModelsRequest(), timeout=10)
            with grpc.insecure_channel(served.address, own) as other:
                second = pb_grpc.ModelsStub(other)
                refused = refusal(lambda: second.List(pb.ListModelsRequest(), timeout=10))
                assert refused.code is grpc.StatusCode.UNAVAILABLE
            first.List(pb.ListModelsRequest(), timeout=10)
        with grpc.insecure_channel(served.address, own) as channel:
            pb_grpc.ModelsStub(channel).List(pb.ListModelsRequest(), timeout=20, wait_for_ready=True)


def test_bytes_of_pending_requests_are_limited_together() -> None:
    large = wire.score_request("", "query", ["x" * 600], "error", "skip")
    config = ServerConfig(port=0, max_pending_bytes=1000)
    with serving(config) as served, grpc.insecure_channel(served.address) as channel:
        stub = pb_grpc.ScoringStub(channel)
        served.ranker.worker.gate.clear()
        pending = stub.Score.future(large)
        assert served.ranker.worker.arrived.acquire(timeout=10)
        refused = refusal(lambda: stub.Score(large, timeout=10))
        assert "the limit is 1000 (max_pending_bytes)" in refused.message
        small = stub.Score.future(REQUEST)
        assert served.ranker.worker.arrived.acquire(timeout=10)
        served.ranker.worker.gate.set()
        pending.result()
        small.result()
        # One alone is always taken.
        stub.Score(wire.score_request("", "query", ["x" * 2000], "error", "skip"), timeout=10)
