"""Rankers of sets on a device of host memory: the CPU's logits in every mode, states that never leave it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from rankport.exporters.export import export
from rankport.exporters.kinds.set_ranker.proof.modes import ask, modes_of
from rankport.exporters.kinds.set_ranker.proof.samples import SetSample, draw_samples
from rankport.protos.errors import BackendError
from rankport.protos.sets import SetColumns
from rankport.runtime.backends import choice
from rankport.runtime.backends.devices.sets import DeviceSetBackend
from rankport.runtime.backends.ort.sets import OnnxRuntimeSetBackend
from rankport.runtime.backends.set_contract import FeatureRows, History
from rankport.runtime.backends.warm_up import warm_up_sets
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.set_ranker.gather import Gatherer
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker
from rankport.runtime.kinds.set_ranker.tables import RowTables
from support.effort import every_run
from support.gpu.cuda_kernels import without_kernel
from support.gpu.gpus import has_cuda
from support.gpu.host_device import HostMemory, host_sets
from support.sets.rankers import set_checkpoint
from support.sets.requests import candidates, history

pytestmark = pytest.mark.usefixtures("traces")

FORMS = {
    "ligr, top": ("ligr", "top"),
    "hstu, set-wise": ("hstu", "set-wise"),
    "ligr": ("ligr", "independent"),
}
LAYERS, HEADS, WIDTH = 1, 3, 16
STATE_BYTES = 2 * LAYERS * WIDTH * 4
"""Bytes that a history keeps of an event."""


@pytest.fixture(scope="module", params=every_run(list(FORMS), {"ligr, top"}))
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """fp32 for both targets."""
    folder = tmp_path_factory.mktemp("sets")
    block, policy = FORMS[request.param]
    checkpoint = set_checkpoint(folder / "c", block, policy=policy)
    return export(checkpoint, folder / "b", kind="set-ranker", target="onnx-cpu,onnx-cuda")


@pytest.fixture
def memory() -> HostMemory:
    return HostMemory()


@pytest.fixture
def device(bundle: Bundle, memory: HostMemory) -> Iterator[DeviceSetBackend]:
    backend = host_sets(bundle.for_target("onnx-cuda"), memory)
    yield backend
    backend.close()


@pytest.fixture
def load(bundle: Bundle, memory: HostMemory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SetRanker]:
    """Loads the ranker over the device."""
    view = bundle.for_target("onnx-cuda")

    def loaded(rows_bytes: int = 0, **knobs: int) -> SetRanker:
        backend = host_sets(view, memory, rows_bytes=rows_bytes)
        monkeypatch.setattr(choice, "load_set_backend", lambda *_, **__: backend)
        return SetRanker.load(view, config=EngineConfig(**knobs))

    return loaded


def samples_of(bundle: Bundle) -> list[SetSample]:
    assert bundle.manifest.sets is not None
    return draw_samples(bundle.manifest.sets)


def gathered(bundle: Bundle, count: int, side: str = "candidates", *, in_graph: bool) -> FeatureRows:
    """Gathers rows of drawn columns: ids looked up, or as rows of their tables."""
    assert bundle.manifest.sets is not None
    gatherer = Gatherer(bundle.manifest.sets, RowTables.open(bundle), in_graph=in_graph)
    columns = candidates(count) if side == "candidates" else history(count)
    return gatherer.rows(SetColumns.of(columns, side), side).features


def test_logits_are_those_of_the_cpu_in_every_mode(bundle: Bundle, load: Callable[..., SetRanker]) -> None:
    assert bundle.manifest.sets is not None
    with SetRanker.load(bundle, config=EngineConfig(threads=1)) as ranker:
        expected = [ask(ranker, sample) for sample in samples_of(bundle)]
    for mode, asked in modes_of(bundle.manifest.sets.mask.policy).items():
        with load(max_prefill_tokens=16) as ranker:  # a long history goes in chunks
            for sample, logits in zip(samples_of(bundle), expected, strict=True):
                np.testing.assert_allclose(asked(ranker, sample), logits, atol=2e-5, err_msg=mode)


def test_any_number_of_candidates_is_padded(bundle: Bundle, device: DeviceSetBackend) -> None:
    sets = bundle.manifest.sets
    assert sets is not None
    cpu = OnnxRuntimeSetBackend(bundle.for_target("onnx-cpu"))
    far = np.iinfo(np.int64).min
    looked_up, found = (gathered(bundle, 9, in_graph=in_graph) for in_graph in (False, True))
    sessions = None if sets.mask.policy == "independent" else np.array([far, 5, 5, far, 0, -1, -1, 0, 7])
    for count in range(1, 10):
        part = None if sessions is None else sessions[:count]
        logits = [
            backend.start(History.nothing(), 5, rows.part(slice(count)), part).results()
            for backend, rows in ((device, found), (cpu, looked_up))
        ]
        np.testing.assert_allclose(logits[0], logits[1], atol=2e-5, err_msg=f"{count}")
    cpu.close()


def test_states_never_leave_the_device(
    bundle: Bundle, memory: HostMemory, load: Callable[..., SetRanker]
) -> None:
    """A request of a kept history sends what one without a history does, and its times; it reads logits.

    Rows of ids are there already.
    """
    none, sample = samples_of(bundle)[0], samples_of(bundle)[-1]
    events = len(sample.times)
    with load(rows_bytes=2**20) as ranker:
        ask(ranker, none)
        ask(ranker, sample)
        before = memory.transfers.to_device
        ask(ranker, none)
        alone = memory.transfers.to_device - before
        sent, read = memory.transfers.to_device, memory.transfers.to_host
        ask(ranker, sample)
        kept = memory.transfers.to_device - sent
        passes = 2 if ranker.schema.mask.policy == "top" else 1
        assert memory.transfers.to_host - read <= passes * len(sample.sessions) * HEADS * 4
        cache = ranker.counts().cache
        assert cache is not None
        assert cache.bytes == STATE_BYTES * events
    assert alone < kept <= alone + passes * 8 * events


def test_what_is_kept_stays_within_its_bytes_and_nothing_stays_behind(
    bundle: Bundle, memory: HostMemory, load: Callable[..., SetRanker]
) -> None:
    budget = 20 * STATE_BYTES
    with load(prefix_cache_bytes=budget) as ranker:
        for _ in range(2):
            for sample in samples_of(bundle):
                ask(ranker, sample)
        cache = ranker.counts().cache
        assert cache is not None
        assert cache.bytes <= budget
    assert not memory.alive


def test_a_pass_that_comes_again_is_recorded(bundle: Bundle, memory: HostMemory) -> None:
    sets, numbers = bundle.manifest.sets, list[int | None]()
    assert sets is not None
    backend = host_sets(bundle.for_target("onnx-cuda"), memory, numbers.append)
    warm_up_sets(backend, bundle.manifest, EngineConfig(max_prefill_tokens=16))
    numbers.clear()
    ranked, times = gathered(bundle, 5, in_graph=True), np.arange(3)
    events = gathered(bundle, 3, "history", in_graph=True)
    sessions = np.zeros(5, np.int64) if sets.mask.policy == "set-wise" else None
    past = History((backend.extend(History.nothing(), events, times),), times)
    for _ in range(4):
        backend.start(past, 5, ranked, sessions).results()
    assert numbers[:3] == [None, None, None]
    assert numbers[3] is not None
    assert numbers[4] == numbers[3]
    assert backend.recordings.replayed >= 1
    backend.close()


def test_cuda_has_every_operator(bundle: Bundle) -> None:
    view = bundle.for_target("onnx-cuda")
    for graph in view.manifest.graphs:
        assert not without_kernel(ir.load(view.file(graph.file)).graph), graph.role


@pytest.mark.parametrize("precision", every_run(["fp16", "bf16"], {"fp16"}))
def test_half_precision_is_proven_by_its_twin(precision: str, tmp_path: Path) -> None:
    checkpoint = set_checkpoint(tmp_path / "c", "hstu", policy="set-wise")
    options = {"kind": "set-ranker", "target": "onnx-cuda", "precision": precision, "table_dtype": "float16"}
    made = export(checkpoint, tmp_path / "b", **options)
    parity = made.manifest.parity
    assert parity is not None
    assert (parity.precision, parity.backend) == (precision, "onnxruntime-cpu, half precision emulated")
    assert parity.noise is not None
    half = {"fp16": "float16", "bf16": "bfloat16"}[precision]
    history, rank = made.manifest.graphs
    assert {tensor.dtype for tensor in history.outputs} == {half}
    assert {tensor.dtype for tensor in rank.outputs} == {"float32"}
    for graph in (history, rank):
        assert not without_kernel(ir.load(made.file(graph.file)).graph), graph.role


@pytest.mark.skipif(has_cuda(), reason="there is a GPU")
def test_without_a_gpu_the_error_says_what_to_install(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"pip install 'rankport\[cuda\]'|no NVIDIA GPU"):
        SetRanker.load(bundle, config=EngineConfig(device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no NVIDIA GPU, or no onnxruntime-gpu")
@pytest.mark.parametrize("rows_bytes", [0, 2**20])
def test_logits_on_cuda_are_those_of_the_cpu(bundle: Bundle, rows_bytes: int) -> None:
    assert bundle.manifest.sets is not None
    with SetRanker.load(bundle, config=EngineConfig(threads=1)) as ranker:
        expected = [ask(ranker, sample) for sample in samples_of(bundle)]
    for mode, asked in modes_of(bundle.manifest.sets.mask.policy).items():
        config = EngineConfig(device="cuda", max_prefill_tokens=16, device_rows_bytes=rows_bytes)
        with SetRanker.load(bundle, config=config) as ranker:
            for sample, logits in zip(samples_of(bundle), expected, strict=True):
                for _ in range(4):  # launched, recorded, replayed
                    np.testing.assert_allclose(asked(ranker, sample), logits, atol=2e-4, err_msg=mode)
