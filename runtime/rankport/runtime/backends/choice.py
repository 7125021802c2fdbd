"""Which backend runs a bundle: decided by the device that the user names and the graphs that the bundle has."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np

from rankport.protos.errors import InvalidRequest, RankportError
from rankport.runtime.backends.contract import (
    DeviceLost,
    EncodingBackend,
    PrefixKV,
    RaggedBatch,
    ScoringBackend,
    TokenRun,
)
from rankport.runtime.backends.tensorrt.plan_files import stored_plans
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Limits, Manifest, Target
from rankport.runtime.config import DEFAULTS, Device, EngineConfig


def scoring_backend(bundle: Bundle, config: EngineConfig = DEFAULTS, *, gpu: int = 0) -> ScoringBackend:
    """A ranker's backend on `config.device`, loaded, and on a GPU, the one of that number, warmed up.

    Raises:
        InvalidRequest: the bundle's graphs are not for that device; the message says what is.
        BundleError: a graph cannot be loaded, or has no plan for this GPU.
        BackendError: there is no such device, or what drives it is not installed.
    """
    view = _view(bundle, config.device)
    if config.device == "cpu":
        from rankport.runtime.backends.ort.cpu import OnnxRuntimeScoringBackend

        return OnnxRuntimeScoringBackend(view, config)
    if config.device == "cuda":
        from rankport.runtime.backends.ort.cuda import cuda_scoring_backend

        backend: ScoringBackend = cuda_scoring_backend(view, config, device=gpu)
    else:
        from rankport.runtime.backends.tensorrt.backends import tensorrt_scoring_backend

        backend = tensorrt_scoring_backend(view, device=gpu)
    _warm(backend, lambda: warm_up(backend, view.manifest, config))
    return backend


def encoding_backend(bundle: Bundle, config: EngineConfig = DEFAULTS, *, gpu: int = 0) -> EncodingBackend:
    """An item encoder's backend; otherwise as `scoring_backend`, errors too."""
    view = _view(bundle, config.device)
    if config.device == "cpu":
        from rankport.runtime.backends.ort.cpu import OnnxRuntimeEncodingBackend

        return OnnxRuntimeEncodingBackend(view, config)
    if config.device == "cuda":
        from rankport.runtime.backends.ort.cuda import cuda_encoding_backend

        backend: EncodingBackend = cuda_encoding_backend(view, device=gpu)
    else:
        from rankport.runtime.backends.tensorrt.backends import tensorrt_encoding_backend

        backend = tensorrt_encoding_backend(view, device=gpu)
    _warm(backend, lambda: warm_up_encoding(backend, view.manifest.limits, config))
    return backend


def is_made_for(bundle: Bundle, device: Device) -> bool:
    """Whether the bundle has graphs for a device, and for TensorRT plans, of whatever GPU."""
    if device == "tensorrt":
        return bool(stored_plans(bundle))
    return device == "cpu" or "onnx-cuda" in bundle.manifest.targets


def _view(bundle: Bundle, device: Device) -> Bundle:
    """The bundle as a device sees it: the graphs that it runs. Raises `InvalidRequest` if there are none."""
    return _VIEWS[device](bundle)


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


def _for_cuda(bundle: Bundle) -> Bundle:
    manifest = bundle.manifest
    if "onnx-cuda" not in manifest.targets:
        raise InvalidRequest(
            f"bundle {manifest.name!r} has graphs for {', '.join(manifest.targets)}, not for CUDA: "
            f"{_way_out(manifest, 'onnx-cuda')}"
        )
    return bundle.for_target("onnx-cuda")


def _for_tensorrt(bundle: Bundle) -> Bundle:
    manifest = bundle.manifest
    if manifest.targets == ("onnx-cuda",):
        raise InvalidRequest(
            f"bundle {manifest.name!r} has graphs for onnx-cuda, whose operators TensorRT lacks: "
            f"{_way_out(manifest, 'tensorrt')}"
        )
    return bundle.for_target("tensorrt") if "tensorrt" in manifest.targets else bundle


_VIEWS: dict[Device, Callable[[Bundle], Bundle]] = {
    "cpu": _for_cpu,
    "cuda": _for_cuda,
    "tensorrt": _for_tensorrt,
}
_DEVICES: dict[Target, Device] = {"onnx-cpu": "cpu", "onnx-cuda": "cuda", "tensorrt": "tensorrt"}


def _way_out(manifest: Manifest, lacking: Target) -> str:
    devices = [f"--device {_DEVICES[target]}" for target in manifest.targets if target != lacking]
    return f"take {' or '.join(devices)}, or export it with --target {lacking}"


def require_device(device: Device) -> None:
    """Raises BackendError if this machine cannot run bundles on it: cheap, to be asked before long work."""
    if device == "cpu":
        return
    from rankport.runtime.backends.devices.cuda_memory import load_cuda_runtime, require_gpu

    if device == "cuda":
        from rankport.runtime.backends.ort.cuda import require_provider

        require_provider()
    require_gpu(load_cuda_runtime())


def _warm(backend: ScoringBackend | EncodingBackend, passes: Callable[[], None]) -> None:
    try:
        passes()
    except BaseException:
        # What closing may find wrong follows from what is raised already.
        with suppress(RankportError, DeviceLost):
            backend.close()
        raise


def warm_up(backend: ScoringBackend, manifest: Manifest, config: EngineConfig) -> None:
    """The smallest and the largest passes that will come: kernels and memory are there before a request waits.

    Raises BackendError: what fails here would fail every request.
    """
    limits = manifest.limits
    prefix = TokenRun(np.zeros(min(limits.max_prefix_tokens, 64), np.int64))
    for length, count in _warm_up_sizes(limits, config):
        pieces: tuple[PrefixKV, ...] = ()
        if len(prefix.ids):
            pieces = backend.prefill(RaggedBatch(((),), (prefix,), np.zeros(1, np.int64)))
        items = (TokenRun(np.zeros(length, np.int64)),) * count
        backend.score(RaggedBatch((pieces,), items, np.zeros(count, np.int64)))


def warm_up_encoding(backend: EncodingBackend, limits: Limits, config: EngineConfig) -> None:
    """The same of an item encoder."""
    for length, count in _warm_up_sizes(limits, config):
        backend.encode([np.zeros(length, np.int64)] * count)


def _warm_up_sizes(limits: Limits, config: EngineConfig) -> list[tuple[int, int]]:
    """Tokens of an item, and how many items."""
    lengths = {min(2, limits.max_item_tokens), min(128, limits.max_item_tokens)}
    return [
        (length, count)
        for length in sorted(lengths)
        for count in (1, max(1, config.max_batch_tokens // length))
    ]
