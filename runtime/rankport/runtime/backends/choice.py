"""Which backend runs a ranker: decided by the device that the user names and the graphs that the bundle has."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np

from rankport.protos.errors import InvalidRequest, RankportError
from rankport.runtime.backends.base import DeviceLost, PrefixKV, RaggedBatch, ScoringBackend, TokenRun
from rankport.runtime.bundle import Bundle
from rankport.runtime.config import DEFAULTS, Device, EngineConfig
from rankport.runtime.manifest import Manifest, Target


def scoring_backend(bundle: Bundle, config: EngineConfig = DEFAULTS) -> ScoringBackend:
    """The backend of `config.device`, loaded, and on a GPU warmed up.

    Raises:
        InvalidRequest: the bundle's graphs are not for that device; the message says what is.
        BundleError: a graph cannot be loaded, or has no engine for this GPU.
        BackendError: there is no such device, or what drives it is not installed.
    """
    return _BACKENDS[config.device](bundle, config)


def _on_cpu(bundle: Bundle, config: EngineConfig) -> ScoringBackend:
    from rankport.runtime.backends.onnxruntime import OnnxRuntimeScoringBackend

    return OnnxRuntimeScoringBackend(_for_cpu(bundle), config)


def _for_cpu(bundle: Bundle) -> Bundle:
    """The graphs for a CPU, else others in fp32, which it computes too."""
    manifest = bundle.manifest
    views = [bundle.for_target(target) for target in sorted(manifest.targets, key="onnx-cpu".__ne__)]
    runnable = next((view for view in views if view.manifest.precision == "fp32"), None)
    if runnable is None:
        raise InvalidRequest(
            f"bundle {manifest.name!r} is in {manifest.precision}, which a CPU does not compute in: "
            f"{_way_out(manifest, 'onnx-cpu')}"
        )
    return runnable


def _way_out(manifest: Manifest, lacking: Target) -> str:
    devices = [f"--device {_DEVICES[target]}" for target in manifest.targets if target != lacking]
    return f"take {' or '.join(devices)}, or export it with --target {lacking}"


_DEVICES: dict[Target, Device] = {"onnx-cpu": "cpu", "onnx-cuda": "cuda", "tensorrt": "tensorrt"}


def _on_cuda(bundle: Bundle, config: EngineConfig) -> ScoringBackend:
    manifest = bundle.manifest
    if "onnx-cuda" not in manifest.targets:
        raise InvalidRequest(
            f"bundle {manifest.name!r} has graphs for {', '.join(manifest.targets)}, not for CUDA: "
            f"{_way_out(manifest, 'onnx-cuda')}"
        )
    from rankport.runtime.backends.onnxruntime_cuda import cuda_scoring_backend

    view = bundle.for_target("onnx-cuda")
    return _warm(cuda_scoring_backend(view, config), view.manifest, config)


def _on_tensorrt(bundle: Bundle, config: EngineConfig) -> ScoringBackend:
    from rankport.runtime.backends.tensorrt_scoring import tensorrt_scoring_backend

    manifest = bundle.manifest
    if manifest.targets == ("onnx-cuda",):
        raise InvalidRequest(
            f"bundle {manifest.name!r} has graphs for onnx-cuda, whose operators TensorRT lacks: "
            f"{_way_out(manifest, 'tensorrt')}"
        )
    view = bundle.for_target("tensorrt") if "tensorrt" in manifest.targets else bundle
    return _warm(tensorrt_scoring_backend(view), view.manifest, config)


_BACKENDS: dict[Device, Callable[[Bundle, EngineConfig], ScoringBackend]] = {
    "cpu": _on_cpu,
    "cuda": _on_cuda,
    "tensorrt": _on_tensorrt,
}


def _warm(backend: ScoringBackend, manifest: Manifest, config: EngineConfig) -> ScoringBackend:
    try:
        warm_up(backend, manifest, config)
    except BaseException:
        # What closing may find wrong follows from what is raised already.
        with suppress(RankportError, DeviceLost):
            backend.close()
        raise
    return backend


def require_device(device: Device) -> None:
    """Raises BackendError if this machine cannot run bundles on it: cheap, to be asked before long work."""
    if device == "cpu":
        return
    from rankport.runtime.backends.cuda_memory import load_cuda_runtime, require_gpu

    if device == "cuda":
        from rankport.runtime.backends.onnxruntime_cuda import require_provider

        require_provider()
    require_gpu(load_cuda_runtime())


def warm_up(backend: ScoringBackend, manifest: Manifest, config: EngineConfig) -> None:
    """The smallest and the largest passes that will come: kernels and memory are there before a request waits.

    Raises BackendError: what fails here would fail every request.
    """
    limits = manifest.limits
    prefix = TokenRun(np.zeros(min(limits.max_prefix_tokens, 64), np.int64))
    for length in {min(2, limits.max_item_tokens), min(128, limits.max_item_tokens)}:
        for count in (1, max(1, config.max_batch_tokens // length)):
            pieces: tuple[PrefixKV, ...] = ()
            if len(prefix.ids):
                pieces = backend.prefill(RaggedBatch(((),), (prefix,), np.zeros(1, np.int64)))
            items = (TokenRun(np.zeros(length, np.int64)),) * count
            backend.score(RaggedBatch((pieces,), items, np.zeros(count, np.int64)))
