"""Loaders of plans: as TensorRT's, and with a comparison of numbers where a GPU that it does not list may be tried."""

from collections.abc import Callable
from functools import partial

from rankport.protos.installed.extras import extras_named
from rankport.runtime.backends.contract import PrefixBackend, TextBackend
from rankport.runtime.backends.devices.scoring import reserved_bytes
from rankport.runtime.backends.layouts.layout import Cast, cast_by_numpy
from rankport.runtime.backends.tensorrt import backends
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Role
from rankport.runtime.config import EngineConfig

OnCpu = Callable[[], Bundle | None]
"""Gives the bundle's graphs that a CPU computes; None if it has none."""


def load_prefix_plans(bundle: Bundle, config: EngineConfig, gpu: int, on_cpu: OnCpu) -> PrefixBackend:
    """Loads a ranker's plans.

    Raises as `tensorrt_prefix_backend`, and BackendError where numbers on a GPU that may be tried are wrong.
    """
    load = partial(
        backends.tensorrt_prefix_backend, bundle, device=gpu, kv_bytes=reserved_bytes(config), cast=_cast()
    )
    if not config.allow_unsupported_gpu:
        return load()
    with extras_named("allow_unsupported_gpu"):
        from rankport.runtime.backends.trial.unlisted import Unlisted

    check = Unlisted(bundle, on_cpu(), gpu).check_prefix_backend
    return load(on_unlisted_gpu=check)


def load_text_plans(bundle: Bundle, role: Role, config: EngineConfig, gpu: int, on_cpu: OnCpu) -> TextBackend:
    """Loads a graph of texts; raises as `load_prefix_plans`."""
    if not config.allow_unsupported_gpu:
        return backends.tensorrt_text_backend(bundle, role, device=gpu)
    with extras_named("allow_unsupported_gpu"):
        from rankport.runtime.backends.trial.unlisted import Unlisted

    check = Unlisted(bundle, on_cpu(), gpu).check_text_backend(role)
    return backends.tensorrt_text_backend(bundle, role, device=gpu, on_unlisted_gpu=check)


def _cast() -> Cast:
    """Gives ONNX Runtime's, where that is installed: plans run without it."""
    try:
        from rankport.runtime.backends.ort.half_floats import HalfFloatCast
    except ImportError:
        return cast_by_numpy
    return HalfFloatCast()
