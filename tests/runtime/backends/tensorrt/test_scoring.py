"""A ranker on plans, TensorRT aside: every pass that the device backend makes fits a profile, and answers are right.

Graphs run in ONNX Runtime on this machine, and refuse what the plan's profiles would.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.exporters.kinds.ranker.proof.modes import MODES
from rankport.exporters.kinds.ranker.proof.samples import sample_requests
from rankport.protos.errors import BackendError, BundleError
from rankport.runtime.backends.contract import PrefixBackend
from rankport.runtime.backends.devices.graph import DeviceArray
from rankport.runtime.backends.devices.scoring import DevicePrefixBackend, ScoringGraphs
from rankport.runtime.backends.ort.cpu import OnnxRuntimePrefixBackend, OnnxRuntimeTextBackend
from rankport.runtime.backends.tensorrt import backends as tensorrt_backends
from rankport.runtime.backends.tensorrt.backends import tensorrt_prefix_backend, tensorrt_text_backend
from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits
from rankport.runtime.backends.tensorrt.profiles import choose, profiles_for, sizes_of
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import GraphSpec
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRun, TokenRuns
from support.gpu.host_device import HostMemory, host_graph

Load = Callable[[ProfileLimits], PrefixBackend]


class ProfiledGraph:
    """A graph of `host_backend` that takes what the profiles of its plan take. Implements `DeviceGraph`."""

    def __init__(self, bundle: Bundle, spec: GraphSpec, limits: ProfileLimits, used: list[str]) -> None:
        self._graph = host_graph(bundle, spec.role)
        self._inputs, self._used = spec.inputs, used
        self.profiles = profiles_for(spec.inputs, [spec.role], bundle.manifest.axes, limits)
        self.input_names, self.host_names = self._graph.input_names, self._graph.host_names

    def run(
        self,
        inputs: Mapping[str, DeviceArray],
        host: Mapping[str, Any],
        outputs: Mapping[str, DeviceArray],
        **fixed: Any,
    ) -> None:
        shapes = {name: array.shape for name, array in inputs.items()}
        self._used.append(self.profiles[choose(self.profiles, sizes_of(self._inputs, shapes))].name)
        self._graph.run(inputs, host, outputs, **fixed)

    def close(self) -> None:
        self._graph.close()


@pytest.fixture
def used() -> list[str]:
    """Names of the profiles that passes ran in."""
    return []


@pytest.fixture
def load(mix_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, used: list[str]) -> Load:
    def load(limits: ProfileLimits) -> PrefixBackend:
        monkeypatch.setattr(tensorrt_backends, "CudaMemory", lambda device: HostMemory())
        monkeypatch.setattr(
            tensorrt_backends,
            "load_graph",
            lambda bundle, spec, memory, **_: ProfiledGraph(bundle, spec, limits, used),
        )
        return tensorrt_prefix_backend(mix_bundle)

    return load


@pytest.mark.parametrize(
    "limits", [ProfileLimits(), ProfileLimits(16, max_prefixes=2)], ids=["usual", "small"]
)
@pytest.mark.parametrize("mode", MODES)
def test_logits_are_those_of_the_cpu_backend_in_every_mode(
    mode: str, limits: ProfileLimits, load: Load, used: list[str], mix_bundle: Bundle
) -> None:
    shape, form = mix_bundle.manifest.shape, mix_bundle.manifest.embedding
    assert form is not None
    requests = list(sample_requests(shape.vocab_size, shape.hidden_size, mix_bundle.manifest.limits, 1.0))
    backend = load(limits)
    expected = MODES[mode](OnnxRuntimePrefixBackend(mix_bundle, EngineConfig(threads=1)), requests)
    for one, other in zip(expected, MODES[mode](backend, requests), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    backend.close()
    assert used


@pytest.mark.parametrize(
    "limits", [ProfileLimits(), ProfileLimits(16, max_prefixes=2)], ids=["usual", "small"]
)
def test_an_encoder_gives_the_tokens_of_the_cpu_backend(
    limits: ProfileLimits, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, used: list[str]
) -> None:
    memory, longest = HostMemory(), encoder_bundle.manifest.limits.max_item_tokens
    monkeypatch.setattr(tensorrt_backends, "CudaMemory", lambda device: memory)
    monkeypatch.setattr(
        tensorrt_backends,
        "load_graph",
        lambda bundle, spec, memory, **_: ProfiledGraph(bundle, spec, limits, used),
    )
    lengths = (0, 3, 1, longest - 1, 7, 2, 1, 11)
    texts = TokenRuns.of([TokenRun(np.arange(5, 5 + length % longest + 1) % 30) for length in lengths])
    backend = tensorrt_text_backend(encoder_bundle, "encode")
    expected = OnnxRuntimeTextBackend(encoder_bundle, "encode", EngineConfig(threads=1)).compute(texts)
    np.testing.assert_allclose(backend.compute(texts), expected, atol=2e-3)
    backend.close()
    assert not memory.alive
    assert len(used) == 1 if limits == ProfileLimits() else len(used) > 1  # in parts


def test_a_backend_that_cannot_load_leaves_nothing(
    mix_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, load: Load, used: list[str]
) -> None:
    memory, closed = HostMemory(), []
    monkeypatch.setattr(memory, "close", lambda: closed.append("memory"))
    monkeypatch.setattr(ProfiledGraph, "close", lambda graph: closed.append("graph"))

    def fail(bundle: Bundle, spec: GraphSpec, memory: object, **_: object) -> ProfiledGraph:
        if spec.role == "score":
            raise BundleError("no plan of score.onnx")
        return ProfiledGraph(bundle, spec, ProfileLimits(), used)

    monkeypatch.setattr(tensorrt_backends, "CudaMemory", lambda device: memory)
    monkeypatch.setattr(tensorrt_backends, "load_graph", fail)
    with pytest.raises(BundleError, match=r"no plan of score\.onnx"):
        tensorrt_prefix_backend(mix_bundle)
    assert closed == ["graph", "memory"]


def test_a_backend_that_finds_no_page_locked_memory_leaves_nothing(
    mix_bundle: Bundle, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = list[str]()

    class Unlocked(HostMemory):
        def staging(self, nbytes: int) -> NDArray[np.uint8]:
            raise BackendError("CUDA: cudaHostAlloc failed: out of memory")

        def close(self) -> None:
            closed.append("memory")

    monkeypatch.setattr(ProfiledGraph, "close", lambda graph: closed.append("graph"))
    monkeypatch.setattr(
        tensorrt_backends, "load_graph", lambda *given, **_: ProfiledGraph(*given[:2], ProfileLimits(), [])
    )
    monkeypatch.setattr(tensorrt_backends, "CudaMemory", lambda device: Unlocked())
    with pytest.raises(BackendError, match="cudaHostAlloc"):
        tensorrt_prefix_backend(mix_bundle)
    with pytest.raises(BackendError, match="cudaHostAlloc"):
        tensorrt_text_backend(encoder_bundle, "encode")
    assert closed == ["graph", "graph", "memory", "graph", "memory"]


def test_memory_of_the_prefix_cache_is_taken_before_a_plan_is_loaded(
    mix_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that grew until there is no more would fail every request from then on."""
    closed = list[str]()

    class Small(HostMemory):
        def reserve(self, nbytes: int) -> None:
            raise BackendError(f"the GPU has no {nbytes} bytes for the prefix cache")

        def close(self) -> None:
            closed.append("memory")

    monkeypatch.setattr(tensorrt_backends, "CudaMemory", lambda device: Small())
    with pytest.raises(BackendError, match="no 4096 bytes for the prefix cache"):
        tensorrt_prefix_backend(mix_bundle, kv_bytes=4096)
    assert closed == ["memory"]


def test_without_parts_a_pass_too_large_would_be_refused(mix_bundle: Bundle, used: list[str]) -> None:
    limits = ProfileLimits(16, max_prefixes=1)
    prefix, score = (
        ProfiledGraph(mix_bundle, mix_bundle.graph(role), limits, used) for role in ("prefix", "score")
    )
    whole = DevicePrefixBackend(mix_bundle.manifest, ScoringGraphs(prefix, score), HostMemory())
    shape = mix_bundle.manifest.shape
    requests = list(sample_requests(shape.vocab_size, shape.hidden_size, mix_bundle.manifest.limits, 1.0))
    with pytest.raises(BackendError, match="no profile of the plan takes this pass"):
        MODES["many_prefixes"](whole, requests)
