"""States of recurrent layers beside KV on a device: the source's answers in every mode, and what a prefix holds.

ONNX Runtime's CPU runs the graphs for CUDA in host memory: all but CUDA itself.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers import AutoModelForCausalLM

from rankport.exporters.export import export
from rankport.exporters.kinds.ranker.proof.modes import MODES
from rankport.exporters.kinds.ranker.proof.samples import sample_requests
from rankport.runtime.backends.choice import load_prefix_backend
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.devices.scoring import DevicePrefixBackend
from rankport.runtime.backends.ort.cpu import OnnxRuntimePrefixBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.engine import Engine, Scored
from rankport.runtime.tokens import TokenRun, TokenRuns
from support.effort import every_run, full_effort
from support.gpu.cuda_kernels import without_kernel
from support.gpu.gpus import has_cuda
from support.gpu.host_device import HostMemory, host_backend
from support.hybrids import FAMILIES, hybrid

pytestmark = pytest.mark.usefixtures("traces")

LABELS = (9, 17)
LIMITS = {"max_prefix_tokens": 60, "max_item_tokens": 16}


@pytest.fixture(scope="module", params=every_run(FAMILIES, {"qwen3.5"}))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A checkpoint and its bundle for CUDA."""
    folder = tmp_path_factory.mktemp("states")
    checkpoint = hybrid(folder / "checkpoint", request.param)
    options: dict[str, Any] = {"kind": "ranker", "label_ids": LABELS, **LIMITS}
    return checkpoint, export(checkpoint, folder / "bundle", target="onnx-cuda", **options)


@pytest.fixture
def memory() -> HostMemory:
    return HostMemory()


@pytest.fixture
def device(exported: tuple[Path, Bundle], memory: HostMemory) -> Iterator[DevicePrefixBackend]:
    backend = host_backend(exported[1], memory)
    yield backend
    backend.close()


def test_an_export_equals_its_source_in_every_mode(exported: tuple[Path, Bundle]) -> None:
    parity = exported[1].manifest.parity
    assert parity is not None
    assert len(parity.modes) == 5
    assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4


def test_cuda_has_a_kernel_for_every_node(exported: tuple[Path, Bundle]) -> None:
    bundle = exported[1]
    for spec in bundle.manifest.graphs:
        assert not without_kernel(ir.load(bundle.file(spec.file)).graph)


def test_padded_passes_on_a_device_give_what_whole_ones_give(
    exported: tuple[Path, Bundle], device: DevicePrefixBackend
) -> None:
    bundle = exported[1]
    requests = sample_requests(bundle.manifest.shape.vocab_size, 1, bundle.manifest.limits, None)
    whole = OnnxRuntimePrefixBackend(bundle, EngineConfig(threads=1))
    for mode in MODES.values():
        for one, other in zip(mode(whole, requests), mode(device, requests), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)


def test_a_prefix_holds_its_states_once_and_is_not_split(
    exported: tuple[Path, Bundle], device: DevicePrefixBackend, memory: HostMemory
) -> None:
    manifest = exported[1].manifest
    assert device.split is None
    prefix = TokenRun(np.arange(3, 12))
    before = len(memory.alive)
    (kv,) = device.prefill(PrefixBatch.of(((),), (prefix,), np.zeros(1, np.int64)))
    states = state_bytes(manifest)
    tokens = sum(2 * layer.kv_heads * layer.head_dim * 4 for layer in manifest.shape.layers) * 9
    assert states + tokens <= kv.nbytes < states + tokens + 256
    alive = len(memory.alive)
    assert alive > before
    del kv
    assert len(memory.alive) == alive - 1


def state_bytes(manifest: Manifest) -> int:
    """Counts the bytes of the states of a prefix, in fp32."""
    (prefix,) = (graph for graph in manifest.graphs if graph.role == "prefix")
    states = [output.shape[1:] for output in prefix.outputs if "slots_per_prefix" not in output.shape]
    return sum(int(np.prod(shape)) * 4 for shape in states)


def test_prefill_passes_are_recorded_ahead_as_far_as_their_states_have_room(
    exported: tuple[Path, Bundle], device: DevicePrefixBackend
) -> None:
    room = 2 * state_bytes(exported[1].manifest)
    device.record_prefills([(8, 16), (3, 16), (2, 16), (1, 16)], room)
    assert device.recordings.recorded == 2
    device.record_prefills([(8, 16)], 0)
    assert device.recordings.recorded == 2


def test_prefixes_that_begin_alike_share_what_they_can_and_answer_as_the_source(
    exported: tuple[Path, Bundle], device: DevicePrefixBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "close", lambda: None)  # the fixture's
    model = AutoModelForCausalLM.from_pretrained(exported[0]).eval()
    random = np.random.default_rng(5)
    instruction = random.integers(3, 100, 30)
    prefixes = [np.concatenate([instruction, random.integers(3, 100, size)]) for size in (9, 4, 12)]
    items = [random.integers(3, 100, size) for size in (5, 1, 16, 7)]

    def expected(prefix: np.ndarray) -> np.ndarray:
        ids = [torch.tensor(np.concatenate([prefix, item]))[None] for item in items]
        with torch.no_grad():
            return np.array([model(one).logits[0, -1, list(LABELS)].numpy() for one in ids])

    engine = Engine(device, EngineConfig())
    try:

        def score(prefix: np.ndarray) -> Scored:
            return engine.submit(TokenRun(prefix), TokenRuns.of(list(map(TokenRun, items)))).result(60)

        computed = []
        for prefix in (*prefixes, prefixes[0], np.empty(0, np.int64)):
            scored = score(prefix)
            np.testing.assert_allclose(scored.logits, expected(prefix), atol=1e-4)
            computed.append(scored.prefix_tokens_computed)
        assert computed == [39, 34, 12, 0, 0]
    finally:
        engine.close()


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no NVIDIA GPU, or no onnxruntime-gpu")
@pytest.mark.parametrize("mode", MODES)
def test_logits_on_cuda_are_those_of_the_cpu_backend(mode: str, exported: tuple[Path, Bundle]) -> None:
    bundle = exported[1]
    requests = sample_requests(bundle.manifest.shape.vocab_size, 1, bundle.manifest.limits, None)
    expected = MODES[mode](OnnxRuntimePrefixBackend(bundle), requests)
    with closing(load_prefix_backend(bundle, EngineConfig(device="cuda"))) as backend:
        actual = MODES[mode](backend, requests)
    for one, other in zip(expected, actual, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


OTHER_FORMS = {"joint": {"graphs": "joint", "attention": "shared"}, "int8": {"quantize": "int8"}}


@pytest.mark.parametrize("form", every_run(OTHER_FORMS, ()))
def test_other_forms_of_graphs_are_proven(form: str, tmp_path: Path) -> None:
    checkpoint = hybrid(tmp_path / "c", "lfm2")
    options: dict[str, Any] = {
        "kind": "ranker",
        "label_ids": LABELS,
        "target": "onnx-cuda",
        **OTHER_FORMS[form],
    }
    bundle = export(checkpoint, tmp_path / "b", **options, **LIMITS)
    assert bundle.manifest.parity is not None
    assert len({graph.file for graph in bundle.manifest.graphs}) == 1


@full_effort
def test_a_bundle_for_a_cpu_and_cuda_has_graphs_for_both(tmp_path: Path) -> None:
    checkpoint = hybrid(tmp_path / "c", "lfm2")
    options: dict[str, Any] = {"kind": "ranker", "label_ids": LABELS, "precision": "fp16", **LIMITS}
    manifest = export(checkpoint, tmp_path / "b", target="onnx-cpu,onnx-cuda", **options).manifest
    assert manifest.targets == ("onnx-cpu", "onnx-cuda")
    assert manifest.parity is not None
    assert manifest.target_parity is not None
    assert manifest.target_parity.keys() == {"onnx-cuda"}
