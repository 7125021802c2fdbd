"""What TensorRT does on a GPU alone, over a stand-in for its builder: options, timing caches, stripped plans."""

import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from rankport.protos.errors import BundleError
from rankport.runtime.backends.devices.cuda_memory import CudaMemory
from rankport.runtime.backends.devices.gpus import Gpu
from rankport.runtime.backends.tensorrt import build as plan_build
from rankport.runtime.backends.tensorrt import loading as tensorrt_loading
from rankport.runtime.backends.tensorrt.build import BuildTarget, build_plans
from rankport.runtime.backends.tensorrt.build_options import BuildOptions
from rankport.runtime.backends.tensorrt.network import BuildRequest, compile_graph
from rankport.runtime.backends.tensorrt.plan_files import StoredPlan
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.table import open_bundle
from support.gpu.fake_builder import LEARNED, PLAN, FakeBuilderApi

H200 = Gpu("NVIDIA H200", "sm90", 139 * 2**30)
RTX_A6000 = Gpu("NVIDIA RTX A6000", "sm86", 48 * 2**30)


@pytest.fixture
def api() -> FakeBuilderApi:
    return FakeBuilderApi()


@pytest.fixture
def bundle(
    encoder_bundle: Bundle, tmp_path: Path, api: FakeBuilderApi, monkeypatch: pytest.MonkeyPatch
) -> Bundle:
    """An encoder on a machine with an H200 and TensorRT."""
    for user in (plan_build, tensorrt_loading):
        monkeypatch.setattr(user, "load_tensorrt", lambda name=None: api.module)
        monkeypatch.setattr(user, "list_gpus", lambda: (H200,))
    return open_bundle(shutil.copytree(encoder_bundle.path, tmp_path / "encoder"))


def compiled(api: FakeBuilderApi, cache: Path | None = None, **options: object) -> memoryview:
    chosen = BuildOptions(**options)
    return compile_graph(api.module, BuildRequest(Path("encode.onnx"), (), (), None, chosen, cache))


def plan(bundle: Bundle, **options: object) -> StoredPlan:
    chosen = BuildOptions(**options)
    (built,) = build_plans(bundle, BuildTarget.parse("tensorrt"), options=chosen)
    return built.plan


def test_a_graph_of_plain_arrays_gets_no_plan(bundle: Bundle, wide_bundle: Bundle, tmp_path: Path) -> None:
    """It runs on the CPU beside every device."""
    towers = open_bundle(shutil.copytree(wide_bundle.path, tmp_path / "towers"))
    built = build_plans(towers, BuildTarget.parse("tensorrt"), options=BuildOptions())
    assert [each.plan.record.key.graph for each in built] == ["represent-query.onnx", "represent-item.onnx"]


def test_float32_is_what_was_proven_unless_asked_otherwise(api: FakeBuilderApi) -> None:
    assert compiled(api) == PLAN
    assert api.config.flags == set()
    compiled(api, tf32=True)
    assert api.config.flags == {api.BuilderFlag.TF32}


def test_options_reach_the_builder(api: FakeBuilderApi) -> None:
    compiled(api, strip_weights=True, hardware_compatible=True, optimization_level=5)
    assert api.config.flags == {api.BuilderFlag.STRIP_PLAN, api.BuilderFlag.REFIT_IDENTICAL}
    assert api.config.hardware_compatibility_level == api.HardwareCompatibilityLevel.AMPERE_PLUS
    assert api.config.builder_optimization_level == 5


def test_a_build_goes_on_from_the_timings_of_the_last(api: FakeBuilderApi, tmp_path: Path) -> None:
    cache = tmp_path / "timing.cache"
    for times in (1, 2):
        compiled(api, cache)
        assert cache.read_bytes() == LEARNED * times
    assert list(tmp_path.iterdir()) == [cache]


@pytest.mark.parametrize("content", [b"of another GPU", b"junk"])
def test_timings_that_are_refused_are_replaced(content: bytes, tmp_path: Path) -> None:
    cache = tmp_path / "timing.cache"
    cache.write_bytes(content)
    compiled(FakeBuilderApi(takes_cache=lambda given: given != b"of another GPU"), cache)
    assert cache.read_bytes() == LEARNED


def test_a_builder_that_takes_no_timings_builds_without(tmp_path: Path) -> None:
    cache = tmp_path / "timing.cache"
    assert compiled(FakeBuilderApi(takes_cache=lambda given: False), cache) == PLAN
    assert not cache.exists()


def test_a_build_that_fails_leaves_the_timings_as_they_were(api: FakeBuilderApi, tmp_path: Path) -> None:
    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"kept")
    api.fails = True
    with pytest.raises(BundleError, match=r"encode\.onnx: tensorrt 11\.4 cannot build it"):
        compiled(api, cache)
    assert cache.read_bytes() == b"kept"


def test_what_a_signal_raises_ends_the_build_and_is_raised(api: FakeBuilderApi, tmp_path: Path) -> None:
    def raise_it(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, raise_it)
    api.until_stopped = lambda: os.kill(os.getpid(), signal.SIGUSR1)
    try:
        with pytest.raises(KeyboardInterrupt):
            compiled(api, tmp_path / "timing.cache")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert api.ended.is_set()
    assert list(tmp_path.iterdir()) == []


def test_a_plan_lies_beside_the_timings_of_its_gpu(bundle: Bundle) -> None:
    place = bundle.path / "plans" / "nvidia-h200-tensorrt-11.4"
    assert plan(bundle).path == place / "encode"
    assert sorted(path.name for path in place.iterdir()) == ["encode", "timing.cache"]


def test_a_hardware_compatible_plan_serves_another_gpu(bundle: Bundle) -> None:
    compatible = plan(bundle, hardware_compatible=True)
    assert compatible.path.parent.name == "sm80+-tensorrt-11.4"
    assert (compatible.record.key.architecture, compatible.record.key.gpu) == ("sm80+", None)
    graph = bundle.manifest.graphs[0]
    assert tensorrt_loading.find_plan(bundle, graph, RTX_A6000)[0] == compatible


def test_a_plan_without_weights_is_given_those_of_the_bundle(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []
    monkeypatch.setattr(tensorrt_loading, "TensorRtGraph", lambda *arguments, weights: given.append(weights))
    graph = bundle.manifest.graphs[0]
    for strip_weights in (True, False):
        assert plan(bundle, strip_weights=strip_weights).record.key.options.strip_weights == strip_weights
        tensorrt_loading.load_graph(bundle, graph, cast(CudaMemory, SimpleNamespace(device=0, cuda=None)))
    assert given == [bundle.file(graph.file), None]
