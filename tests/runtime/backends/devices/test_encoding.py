"""Item encoders on a device of host memory: the tokens of the CPU backend, whatever the graph; CUDA where it is."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from rankport.exporters.export import export
from rankport.exporters.kinds.texts.samples import sample_runs
from rankport.exporters.options.tolerance import LEAST_KENDALL_TAU, ROUNDED_KENDALL_TAU
from rankport.exporters.verify import verify
from rankport.protos.errors import BackendError, InvalidRequest
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.backends.devices.encoding import DeviceTextBackend
from rankport.runtime.backends.ort.cpu import OnnxRuntimeTextBackend
from rankport.runtime.backends.warm_up import warm_up_texts
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.tokens import TokenRun, TokenRuns
from support import checkpoints
from support.effort import every_run
from support.gpu.cuda_kernels import without_kernel
from support.gpu.gpus import has_cuda
from support.gpu.host_device import HostMemory, host_encoder

pytestmark = pytest.mark.usefixtures("traces")

ENCODER = {"kind": "item-encoder", "max_item_tokens": 21}
FORMS: dict[str, tuple[str, dict[str, object]]] = {
    "bert, mean": ("bert", {"pooling": "mean", "normalize": True}),
    "qwen3, last 2": ("qwen3", {"pooling": "last-k", "tokens": 2, "output_dtype": "float32"}),
}


@pytest.fixture(scope="module", params=FORMS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """fp32 for both targets."""
    folder = tmp_path_factory.mktemp("encoder")
    model_type, options = FORMS[request.param]
    checkpoint = checkpoints.body(folder / "c", model_type, num_hidden_layers=2)
    return export(checkpoint, folder / "b", target="onnx-cpu,onnx-cuda", **ENCODER, **options)


@pytest.fixture
def memory() -> HostMemory:
    return HostMemory()


@pytest.fixture
def device(bundle: Bundle, memory: HostMemory) -> Iterator[DeviceTextBackend]:
    backend = host_encoder(bundle.for_target("onnx-cuda"), memory)
    yield backend
    backend.close()


@pytest.fixture
def expected(bundle: Bundle) -> NDArray[np.floating]:
    return OnnxRuntimeTextBackend(bundle.for_target("onnx-cpu"), "encode").compute(_texts(bundle))


def texts_of(runs: list[NDArray[np.int64]]) -> TokenRuns:
    return TokenRuns.of([TokenRun(run) for run in runs])


def _texts(bundle: Bundle) -> TokenRuns:
    return texts_of(_runs(bundle))


def _runs(bundle: Bundle) -> list[NDArray[np.int64]]:
    return sample_runs(bundle.manifest.shape.vocab_size, bundle.manifest.limits.max_item_tokens)


def test_tokens_are_those_of_the_cpu(
    bundle: Bundle, device: DeviceTextBackend, expected: NDArray[np.floating]
) -> None:
    found = device.compute(_texts(bundle))
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=2e-3)
    alone = np.concatenate([device.compute(texts_of([run])) for run in _runs(bundle)])
    np.testing.assert_allclose(alone, expected, atol=2e-3)


def test_each_layer_attends_by_one_kernel(bundle: Bundle) -> None:
    view = bundle.for_target("onnx-cuda")
    operators = [node.op_type for node in ir.load(view.file(view.graph("encode").file)).graph]
    assert operators.count("MultiHeadAttention") == 2
    assert not without_kernel(ir.load(view.file(view.graph("encode").file)).graph)
    assert "Softmax" not in operators
    assert "Neg" not in operators  # rotations are one kernel too


def test_passes_that_the_graph_does_not_take_go_in_parts(
    bundle: Bundle, memory: HostMemory, expected: NDArray[np.floating]
) -> None:
    asked: list[int] = []

    def takes(sizes: object) -> bool:
        assert isinstance(sizes, dict)
        asked.append(sizes["items"])
        return sizes["items"] * sizes["item_tokens"] <= 48

    backend = host_encoder(bundle.for_target("onnx-cuda"), memory, takes)
    np.testing.assert_allclose(backend.compute(_texts(bundle)), expected, atol=2e-3)
    assert max(asked) >= 24
    assert min(asked) <= 3
    backend.close()
    assert not memory.alive


def test_only_tokens_leave_the_device(
    bundle: Bundle, device: DeviceTextBackend, memory: HostMemory, expected: NDArray[np.floating]
) -> None:
    device.compute(_texts(bundle))
    assert memory.transfers.to_host == expected.nbytes


def test_started_passes_keep_their_tokens_apart(
    bundle: Bundle, device: DeviceTextBackend, expected: NDArray[np.floating]
) -> None:
    started = [device.start(texts_of([run])) for run in _runs(bundle)]
    for index in reversed(range(len(started))):
        np.testing.assert_allclose(started[index].results()[0], expected[index], atol=2e-3)


def test_an_encoder_over_the_device_answers_as_over_the_cpu(
    bundle: Bundle,
    device: DeviceTextBackend,
    expected: NDArray[np.floating],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rankport.runtime.backends.choice.load_text_backend", lambda *_, **__: device)
    monkeypatch.setattr(device, "close", lambda: None)  # the fixture's
    with ItemEncoder.load(bundle, config=EngineConfig(max_batch_tokens=64)) as encoder:
        futures = [encoder.submit([run.tolist() for run in _runs(bundle)]) for _ in range(3)]
        for future in futures:
            np.testing.assert_allclose(future.result(30), expected, atol=2e-3)


def test_warm_up_takes_passes_of_the_largest_size(bundle: Bundle, device: DeviceTextBackend) -> None:
    warm_up_texts(device, bundle.manifest, EngineConfig(max_batch_tokens=63))


@pytest.mark.parametrize("precision", every_run(["fp16", "bf16"], {"fp16"}))
def test_half_precision_is_proven_by_its_twin(precision: str, tmp_path: Path) -> None:
    checkpoint = checkpoints.body(tmp_path / "c", "bert", num_hidden_layers=1)
    options = {"target": "onnx-cuda,tensorrt", "precision": precision, **FORMS["bert, mean"][1]}
    made = export(checkpoint, tmp_path / "b", **ENCODER, **options)
    assert made.manifest.parity is not None
    assert made.manifest.parity.precision == precision
    assert made.manifest.parity.backend == "onnxruntime-cpu, half precision emulated"
    for target in ("onnx-cuda", "tensorrt"):
        view = made.for_target(target)
        graph = ir.load(view.file(view.graph("encode").file)).graph
        half = ir.DataType.FLOAT16 if precision == "fp16" else ir.DataType.BFLOAT16
        matrices = [
            one for one in graph.initializers.values() if one.shape is not None and len(one.shape) == 2
        ]
        assert {one.dtype for one in matrices} - {ir.DataType.INT64} == {half}
        assert target != "onnx-cuda" or not without_kernel(graph)
    assert verify(made.path, checkpoint).failures == ()
    with pytest.raises(InvalidRequest, match="which a CPU does not compute in"):
        ItemEncoder.load(made)


@pytest.mark.skipif(has_cuda(), reason="there is a GPU")
def test_without_a_gpu_the_error_says_what_to_install(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"pip install 'rankport\[cuda\]'|no NVIDIA GPU"):
        load_text_backend(bundle, "encode", EngineConfig(device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no NVIDIA GPU, or no onnxruntime-gpu")
def test_tokens_on_cuda_are_those_of_the_cpu(bundle: Bundle, expected: NDArray[np.floating]) -> None:
    backend = load_text_backend(bundle, "encode", EngineConfig(device="cuda"))
    np.testing.assert_allclose(backend.compute(_texts(bundle)), expected, atol=2e-3)
    backend.close()


def test_what_a_low_bit_encoder_may_be_off_by_follows_its_noise(tmp_path: Path) -> None:
    checkpoint = checkpoints.body(tmp_path / "c", "bert", num_hidden_layers=1)
    made = export(checkpoint, tmp_path / "b", quantize="int8", pooling="mean", **ENCODER)
    parity = made.manifest.parity
    assert parity is not None
    assert parity.noise is not None
    assert parity.min_kendall_tau == max(
        min(ROUNDED_KENDALL_TAU, parity.noise.kendall_tau - 0.02), LEAST_KENDALL_TAU
    )
    assert all(parity.holds(mode) for mode in parity.modes)
