"""What TensorRT does on a GPU alone, over a stand-in for its builder: options, timing caches, stripped plans."""

import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from rankport.protos.errors import BundleError, InvalidRequest
from rankport.runtime.backends.devices.cuda.gpus import Gpu
from rankport.runtime.backends.devices.cuda.memory import CudaMemory
from rankport.runtime.backends.tensorrt import build as plan_build
from rankport.runtime.backends.tensorrt import loading as tensorrt_loading
from rankport.runtime.backends.tensorrt.build import BuildTarget, build_plans, require_target
from rankport.runtime.backends.tensorrt.build_options import BuildOptions
from rankport.runtime.backends.tensorrt.module import TensorRt
from rankport.runtime.backends.tensorrt.network import BuildRequest, compile_graph
from rankport.runtime.backends.tensorrt.plan_files import StoredPlan
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.graph_files import GraphNode
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


@pytest.mark.parametrize(("name", "does"), [("generator", "writes text"), ("list", "ranks lists")])
def test_what_no_plan_is_run_for_gets_none(
    name: str, does: str, bundle: Bundle, request: pytest.FixtureRequest
) -> None:
    """A plan of it would never be used."""
    made: Bundle = request.getfixturevalue(f"{name}_bundle")
    with pytest.raises(BundleError, match=f"{does}, which no plan is run for yet: a plan of it would never"):
        build_plans(made, BuildTarget.parse("tensorrt"))


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
    monkeypatch.setattr(
        tensorrt_loading, "TensorRtGraph", lambda *_, weights, **how: given.append((weights, how))
    )
    graph = bundle.manifest.graphs[0]
    for strip_weights in (True, False):
        assert plan(bundle, strip_weights=strip_weights).record.key.options.strip_weights == strip_weights
        memory = cast(CudaMemory, SimpleNamespace(device=0, cuda=None))
        tensorrt_loading.load_graph(bundle, graph, memory, allow_unsupported_gpu=strip_weights)
    assert given == [
        (bundle.file(graph.file), {"allow_unsupported_gpu": True}),
        (None, {"allow_unsupported_gpu": False}),
    ]


def rtx_1_4(here: tuple[Gpu, ...], patch: pytest.MonkeyPatch, api: FakeBuilderApi | None = None) -> None:
    """Plays TensorRT-RTX 1.4, whose list of architectures is the shorter."""
    api = api or FakeBuilderApi()
    patch.setattr(plan_build, "load_tensorrt", lambda name: TensorRt("tensorrt_rtx", "1.4.0.76", api))
    patch.setattr(plan_build, "list_gpus", lambda: here)


def test_a_gpu_that_the_module_does_not_list_is_built_for_only_if_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = BuildTarget.parse("tensorrt-rtx:current")
    rtx_1_4((H200,), monkeypatch)
    with pytest.raises(
        InvalidRequest, match=r"1\.4\.0\.76 lists sm80, sm89, and NVIDIA H200 is sm90: --allow-unsupp"
    ):
        require_target(target)
    assert require_target(target, allow_unsupported_gpu=True).can.targets == ("sm80", "sm89")
    rtx_1_4((Gpu("NVIDIA RTX 4090", "sm89", 2**34),), monkeypatch)
    require_target(target)


def test_an_architecture_that_this_version_lacks_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    rtx_1_4((), monkeypatch)
    with pytest.raises(InvalidRequest, match=r"1\.4\.0\.76 has no architecture 'sm121', only sm80, sm89"):
        require_target(BuildTarget.parse("tensorrt-rtx:sm121"))


def test_low_bits_are_refused_where_this_version_would_ask_a_gpu(
    bundle: Bundle, api: FakeBuilderApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = BuildTarget.parse("tensorrt-rtx:sm89")
    rtx_1_4((), monkeypatch, api)
    low = GraphNode("DequantizeLinear", "weights", "")
    monkeypatch.setattr(plan_build, "graph_nodes", lambda graph: [low])
    with pytest.raises(InvalidRequest, match=r"encode\.onnx: .* 1\.4\.0\.76 builds graphs of low bits"):
        build_plans(bundle, target)
    assert not (bundle.path / "plans").exists()


def test_abilities_are_those_of_the_version() -> None:
    api = SimpleNamespace(ComputeCapability=SimpleNamespace(__members__=["SM75", "SM121"]))
    older, newer = (TensorRt("tensorrt_rtx", version, api).can for version in ("1.4.0.76", "1.7.1.116"))
    assert older.targets == newer.targets == ("sm75", "sm121")
    assert (older.fp32_without_tf32, older.low_bits_without_gpu) == (False, False)
    assert (newer.fp32_without_tf32, newer.low_bits_without_gpu) == (True, True)
    assert TensorRt("tensorrt", "11.4", None).can.targets == ()
