"""A server on ONNX Runtime's own CUDA provider: every kind answers, and a model that goes gives its memory back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.gpu.without_gpu import stub
from rankport.protos.generation import Sampling
from rankport.protos.types import Key
from rankport.protos.versions import ModelState
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.processes.running import running
from rankport.runtime.server.processes.supervisor import Work
from rankport.sdk import Client
from support.cli import rankport
from support.gpu.kinds_on_cuda import BundleOf
from support.servers.supervised import eventually

pytestmark = [pytest.mark.stub_cuda, pytest.mark.usefixtures("traces")]

CUDA = EngineConfig(device="cuda", max_batch_tokens=256, prefix_cache_bytes=2**22, device_tokens_bytes=2**16)
TITLES = ["data engineer", "nurse", "senior machine operator", "chief cook"]
SAMPLING = Sampling(max_tokens=5, stop_ids=())


@pytest.fixture(scope="module")
def store(stub_cuda: None, encoder_on_cuda: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The titles' tokens, by title, as the encode job makes them on the device."""
    folder = tmp_path_factory.mktemp("store")
    items = folder / "items.csv"
    items.write_text("id,text\n" + "".join(f"{title},{title}\n" for title in TITLES))
    paths = ["--bundle", encoder_on_cuda.path, "--items", items, "--store", folder / "tokens.lmdb"]
    stub.take_launches()
    done = rankport("encode", *paths, "--device", "cuda")
    assert done.returncode == 0, done.stderr
    assert stub.kernels(stub.take_launches())
    return folder / "tokens.lmdb"


@contextmanager
def client(address: str, model: str) -> Iterator[Client]:
    with Client(address, model, timeout_s=60.0) as connected:
        yield connected


def ask_all(address: str) -> None:
    """Asks every kind of model of the server; items as keys, whose tokens stay on the device, and as text."""
    with client(address, "mix") as mix:
        assert mix.score("nurse", [Key(title) for title in TITLES]).logits.shape == (4, 2)
        assert mix.score("cook", [Key(TITLES[0]), "head nurse"]).logits.shape == (2, 2)
    with client(address, "encoder") as encoder:
        assert len(encoder.encode(TITLES)) == 4
    with client(address, "levels") as levels:
        assert len(levels.classify(TITLES).best) == 4
    with client(address, "tagger") as tagger:
        assert len(tagger.tag(["sushi in New York", "food"]).status) == 2
    with client(address, "writer") as writer:
        assert len(writer.generate("query nurse", SAMPLING).token_ids) == 5


@pytest.fixture(scope="module")
def bundles(
    mix_on_cuda: Bundle, encoder_on_cuda: Bundle, writer_on_cuda: Bundle, bundle_of: BundleOf
) -> list[str]:
    named = {
        "mix": mix_on_cuda,
        "encoder": encoder_on_cuda,
        "writer": writer_on_cuda,
        "levels": bundle_of("classifier", "fp16"),
        "tagger": bundle_of("tagger", "fp16"),
    }
    return [f"{name}={bundle.path}" for name, bundle in named.items()]


def test_every_kind_is_served(bundles: list[str], store: Path) -> None:
    with running(Work(bundles, ServerConfig(port=0, grace_s=5.0), CUDA, str(store))) as server:
        for _ in range(3):
            ask_all(server.address)
        launches = stub.take_launches()
        assert launches["replays"]


def test_fronts_reach_the_engines_process(bundles: list[str], store: Path) -> None:
    config = ServerConfig(port=0, grace_s=5.0, fronts=1)
    with running(Work(bundles, config, CUDA, str(store))) as server:
        for _ in range(2):
            ask_all(server.address)


def test_a_model_that_goes_gives_its_memory_back(ranker_on_cuda: Bundle, encoder_on_cuda: Bundle) -> None:
    config = ServerConfig(port=0, grace_s=5.0, model_roots=(str(ranker_on_cuda.path.parent),))
    engine = EngineConfig(device="cuda", max_batch_tokens=256, prefix_cache_bytes=2**22)
    with (
        running(Work([str(encoder_on_cuda.path)], config, engine)) as server,
        Client(server.address, timeout_s=60.0) as admin,
        client(server.address, "texts") as ranker,
    ):
        before = stub.alive()
        for _ in range(2):
            assert admin.admin.load(str(ranker_on_cuda.path), timeout_s=60.0).state is ModelState.READY
            assert ranker.score("nurse", TITLES).logits.shape == (4, 2)
            assert stub.alive()["bytes of the device"] > before["bytes of the device"] + 2**20
            admin.admin.unload("texts@1", timeout_s=60.0)
            eventually(lambda: stub.alive() == before)
