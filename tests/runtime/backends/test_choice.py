"""Which backend a device gets, what it sees of a bundle, and that one that fails its warm-up is closed."""

from typing import get_args

import pytest

from rankport.protos.errors import BackendError, InvalidRequest
from rankport.runtime.backends.choice import (
    is_made_for,
    load_prefix_backend,
    load_text_backend,
    require_device,
    view_for,
)
from rankport.runtime.backends.devices.cuda.gpus import list_gpus
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Target
from rankport.runtime.config import Device, EngineConfig
from rankport.runtime.tokens import TokenRuns
from support.reference_backend import ReferenceEncodingBackend

needs_no_gpu = pytest.mark.skipif(
    bool(list_gpus()), reason="this machine has a GPU: the error is of one without"
)
ON_TENSORRT = EngineConfig(device="tensorrt", max_batch_tokens=64)


def test_a_cpu_runs_what_was_made_for_it(mix_bundle: Bundle, encoder_bundle: Bundle) -> None:
    require_device("cpu")
    for backend in (load_prefix_backend(mix_bundle), load_text_backend(encoder_bundle, "encode")):
        backend.close()
    made_for = {device: is_made_for(encoder_bundle, device) for device in get_args(Device)}
    assert made_for == {"cpu": True, "cuda": False, "tensorrt": False}


def test_graphs_for_another_device_are_refused_with_the_way_out(encoder_bundle: Bundle) -> None:
    with pytest.raises(
        InvalidRequest,
        match="not for CUDA: take --device cpu, or export it with --target onnx-cuda",
    ):
        load_text_backend(encoder_bundle, "encode", EngineConfig(device="cuda"))


@pytest.mark.parametrize(
    ("targets", "built"),
    [
        (("onnx-cuda", "onnx-cpu"), "onnx-cpu"),
        (("onnx-cpu", "onnx-cuda"), "onnx-cpu"),
        (("onnx-cpu",), "onnx-cpu"),
        (("onnx-cuda", "onnx-cpu", "tensorrt"), "tensorrt"),
    ],
)
def test_tensorrt_runs_the_plans_of_the_graphs_that_they_are_built_of(
    targets: tuple[Target, ...], built: Target, encoder_bundle: Bundle
) -> None:
    (graph,) = encoder_bundle.manifest.graphs
    graphs = [graph.model_copy(update={"target": target}) for target in targets]
    bundle = Bundle(encoder_bundle.path, encoder_bundle.manifest.model_copy(update={"graphs": graphs}))
    assert view_for(bundle, "tensorrt").graph("encode").target == built


def test_products_of_fp8_are_not_for_a_cpu(encoder_bundle: Bundle) -> None:
    graphs = [
        graph.model_copy(update={"target": "onnx-cuda", "fp8_products": True})
        for graph in encoder_bundle.manifest.graphs
    ]
    bundle = Bundle(encoder_bundle.path, encoder_bundle.manifest.model_copy(update={"graphs": graphs}))
    with pytest.raises(
        InvalidRequest,
        match="multiplies fp8 by fp8, which no CPU does: take --device cuda, or export it with --target onnx-cpu",
    ):
        load_text_backend(bundle, "encode")


@needs_no_gpu
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_device_that_is_not_there_is_told_before_long_work(device: Device) -> None:
    with pytest.raises(BackendError):
        require_device(device)


def test_a_gpu_is_warmed_up_with_the_smallest_and_the_largest_passes(
    encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = ReferenceEncodingBackend()
    _play_tensorrt(monkeypatch, backend)
    assert load_text_backend(encoder_bundle, "encode", ON_TENSORRT, gpu=3) is backend
    longest = min(128, encoder_bundle.manifest.limits.max_item_tokens)
    assert {(len(lengths), max(lengths)) for lengths in backend.passes} == {
        (count, length) for length in (2, longest) for count in (1, max(1, 64 // length))
    }
    assert not backend.closed


@pytest.mark.parametrize("error", [BackendError("no room"), KeyboardInterrupt()])
def test_a_backend_that_fails_its_warm_up_is_closed(
    error: BaseException, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(texts: TokenRuns) -> None:
        raise error

    backend = ReferenceEncodingBackend(before_pass=fail)
    _play_tensorrt(monkeypatch, backend)
    with pytest.raises(type(error)):
        load_text_backend(encoder_bundle, "encode", ON_TENSORRT)
    assert backend.closed


def _play_tensorrt(patch: pytest.MonkeyPatch, backend: ReferenceEncodingBackend) -> None:
    place = "rankport.runtime.backends.tensorrt.backends.tensorrt_text_backend"
    patch.setattr(place, lambda bundle, role, device: backend)
