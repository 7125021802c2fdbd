"""Faults of a GPU under ONNX Runtime's own provider: what is told, what goes on, and that nothing is left behind."""

import gc
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.gpu.without_gpu import stub
from rankport.protos.errors import BackendError, RankportError, Unavailable
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from rankport.sdk import Client

pytestmark = [pytest.mark.stub_cuda, pytest.mark.usefixtures("traces")]

CUDA = EngineConfig(device="cuda", max_batch_tokens=256, prefix_cache_bytes=2**22)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ITEMS = ["nurse", "senior software engineer", "cook"]


@pytest.mark.parametrize(
    "call",
    ["cudaMalloc", "cudaMallocAsync", "cudaHostAlloc", "cudaStreamCreateWithFlags", "cudaGraphInstantiate"],
)
def test_a_load_that_runs_out_of_something_says_so_and_leaves_nothing(
    call: str, ranker_on_cuda: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    before = stub.alive()
    told = set()
    for after in (0, 1, 2, 3, 5, 8, 13, 21, 34):
        try:
            with stub.failing(call, stub.OUT_OF_MEMORY, after=after):
                Ranker.load(ranker_on_cuda, config=CUDA).close()
        except BackendError as error:
            told.add(str(error))
        caplog.clear()  # its records hold what was raised, and so what it passed through
        gc.collect()
        assert stub.alive() == before, (call, after)
    assert told or call == "cudaGraphInstantiate"
    assert all("memory" in words for words in told)


def test_a_pass_that_finds_no_memory_fails_alone(ranker_on_cuda: Bundle) -> None:
    with Ranker.load(ranker_on_cuda, config=CUDA) as ranker:
        expected = ranker.score("nurse", ITEMS).logits.shape
        with (
            stub.failing("cudaMallocAsync", stub.OUT_OF_MEMORY),
            pytest.raises(RankportError, match="cudaMallocAsync failed: out of memory"),
        ):
            ranker.score("the chief pilot of the machine", ITEMS * 20)
        assert ranker.score("the chief pilot of the machine", ITEMS * 20).logits.shape == (60, 2)
        assert ranker.score("nurse", ITEMS).logits.shape == expected


@pytest.mark.parametrize(
    ("call", "error"),
    [("cudaStreamEndCapture", stub.INVALIDATED), ("cudaGraphInstantiate", stub.OUT_OF_MEMORY)],
)
def test_a_pass_that_cannot_be_recorded_is_launched_from_then_on(
    call: str, error: int, ranker_on_cuda: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    with Ranker.load(ranker_on_cuda, config=CUDA) as ranker:
        for _ in range(8):
            with stub.failing(call, error):
                assert ranker.score("nurse of the data", ITEMS * 3).logits.shape == (9, 2)
        assert "a pass is not recorded and launches its kernels anew each time" in caplog.text
        stub.take_launches()
        ranker.score("nurse of the data", ITEMS * 3)
        assert stub.kernels(stub.take_launches())


@pytest.fixture
def unlogged() -> Iterator[None]:
    """Has nothing logged: what keeps records keeps what was raised too, and all that it passed through."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@contextmanager
def served(ranker: Bundle, encoder: Bundle) -> Iterator[str]:
    """A ranker on the GPU beside an encoder on the CPU."""
    models = {
        "ranker": Ranker.load(ranker, config=CUDA),
        "encoder": ItemEncoder.load(encoder, config=EngineConfig(threads=1)),
    }
    with ExitStack() as closed:
        for model in models.values():
            closed.callback(model.close)
        yield closed.enter_context(Server(models, ServerConfig(port=0, grace_s=5.0))).address


def health(address: str, service: str) -> int:
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return int(health_pb2_grpc.HealthStub(channel).Check(request).status)


@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize("call", ["cudaLaunchKernel", "cudaGraphLaunch", "cublas", "cudaMemcpyAsync"])
def test_a_lost_gpu_ends_its_models_and_no_other(
    call: str, ranker_on_cuda: Bundle, encoder_bundle: Bundle
) -> None:
    with (
        served(ranker_on_cuda, encoder_bundle) as address,
        Client(address, "ranker", timeout_s=60.0) as ranker,
        Client(address, "encoder", timeout_s=60.0) as encoder,
    ):
        for _ in range(4):
            ranker.score("nurse", ITEMS)  # recorded
        assert health(address, "ranker") == SERVING
        with stub.failing(call, stub.ILLEGAL_ADDRESS):
            for items in (ITEMS, ITEMS * 9):  # replayed; launched
                with suppress(Unavailable):
                    ranker.score("nurse", items)
            for _ in range(3):
                with pytest.raises(Unavailable, match="an illegal memory access was encountered"):
                    ranker.score("nurse", ITEMS)
            assert health(address, "ranker") == NOT_SERVING
            assert health(address, "encoder") == SERVING
            assert np.isfinite(encoder.encode(ITEMS)).all()
