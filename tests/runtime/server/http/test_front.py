"""Life of the HTTP port: where it listens, its stop, and one engine behind both fronts."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from rankport.protos.errors import Unavailable
from rankport.protos.messages import wire
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.server import Server
from support.servers.deterministic_models import DeterministicRanker
from support.servers.http import ask
from support.servers.serving import HTTP, serving

BODY = {"query": "a", "texts": ["b"]}


@pytest.fixture
def ranker() -> Iterator[DeterministicRanker]:
    model = DeterministicRanker()
    yield model
    model.close()


def test_without_a_port_there_is_no_http() -> None:
    with serving() as served:
        assert served.server.http_address == ""


def test_a_port_that_is_taken_is_told(ranker: DeterministicRanker) -> None:
    with serving(HTTP) as served:
        port = int(served.server.http_address.rsplit(":", 1)[1])
        server = Server({"ranker": ranker}, ServerConfig(port=0, http_port=port))
        with pytest.raises(
            Unavailable, match=f"cannot listen for HTTP on 127.0.0.1 port {port}: .*choose another"
        ):
            server.start()


def test_a_port_of_grpc_that_is_taken_frees_that_of_http(ranker: DeterministicRanker) -> None:
    with serving(HTTP) as served:
        http_port = int(served.server.http_address.rsplit(":", 1)[1])
        grpc_port = served.server.port
        served.server.stop()
        with serving(ServerConfig(port=grpc_port)):
            server = Server({"ranker": ranker}, ServerConfig(port=grpc_port, http_port=http_port))
            with pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1:{grpc_port}"):
                server.start()
            with Server({"ranker": ranker}, ServerConfig(port=0, http_port=http_port)) as later_one:
                assert ask(later_one.http_address, "/health").status == 200


def test_both_fronts_share_admission_and_counts(ranker: DeterministicRanker) -> None:
    config = ServerConfig(port=0, http_port=0, max_pending_calls=1)
    with Server({"ranker": ranker}, config) as server, ThreadPoolExecutor() as threads:
        ranker.worker.gate.clear()
        first = threads.submit(ask, server.http_address, "/rerank", BODY)
        assert ranker.worker.arrived.acquire(timeout=10)
        with grpc.insecure_channel(server.address) as channel:
            stub = pb_grpc.ScoringStub(channel)
            with pytest.raises(grpc.RpcError) as raised:
                stub.Score(wire.score_request("", "a", ["b"], "error", "skip"))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        ranker.worker.gate.set()
        assert first.result().status == 200
        counts = server.counts.snapshot()
        assert (counts[Outcome.ANSWERED], counts[Outcome.REJECTED]) == (1, 1)


def test_a_stop_finishes_what_is_worked_on_and_refuses_the_rest(ranker: DeterministicRanker) -> None:
    server = Server({"ranker": ranker}, HTTP).start()
    address = server.http_address
    with ThreadPoolExecutor() as threads:
        ranker.worker.gate.clear()
        working = threads.submit(ask, address, "/rerank", BODY)
        assert ranker.worker.arrived.acquire(timeout=10)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        while (health := ask(address, "/health")).status == 200:
            pass
        assert health.json["status"] == "stopping"
        while (refused := ask(address, "/rerank", BODY | {"texts": []})).status == 200:
            pass
        assert (refused.status, refused.headers["rankport-error"]) == (503, "Unavailable")
        assert refused.headers["connection"] == "close"  # else the next request would meet its end
        ranker.worker.gate.set()
        assert working.result().status == 200
        stopping.join()
    with pytest.raises(ConnectionRefusedError):
        ask(address, "/health")
