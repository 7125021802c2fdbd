"""Choice of the backend that runs a bundle: by the device that the user names and the graphs that the bundle has.

Owns the table of devices, one line each. What drives a device is imported when it is chosen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from rankport.protos.errors import InvalidRequest
from rankport.protos.installed.extras import extras_named
from rankport.runtime.backends.contract import (
    ArrayGraph,
    MarkedBackend,
    PrefixBackend,
    TextBackend,
)
from rankport.runtime.backends.set_contract import SetBackend, StoredRows
from rankport.runtime.backends.tensorrt.plan_files import stored_plans
from rankport.runtime.backends.warm_up import (
    warm_up_lists,
    warm_up_prefixes,
    warm_up_sets,
    warm_up_texts,
    warm_up_writing,
    warmed_up,
)
from rankport.runtime.backends.write_contract import DecodeBackend, Seq2SeqBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest, Role, Target
from rankport.runtime.config import DEFAULTS, Device, EngineConfig

LoadT = TypeVar("LoadT")


def load_prefix_backend(bundle: Bundle, config: EngineConfig = DEFAULTS, *, gpu: int = 0) -> PrefixBackend:
    """Loads the backend of a bundle that scores behind prefixes on `config.device`.

    On a GPU, the one of that number, it is warmed up; who drives it has `record_passes` called.

    Raises:
        InvalidRequest: the bundle's graphs are not for that device; the message says what is.
        BundleError: a graph cannot be loaded, or has no plan for this GPU.
        BackendError: there is no such device, or what drives it is not installed.
    """
    view, backends = _backends(bundle, config.device)
    return warmed_up(backends.prefix(view, config, gpu), view, config, warm_up_prefixes)


def record_passes(backend: PrefixBackend) -> None:
    """Records the passes that will come, of a backend that was loaded so, where its device can.

    Call it in the thread that drives the backend: ONNX Runtime keeps recordings by thread.
    Raises BackendError if the largest passes cannot be computed.
    """
    from rankport.runtime.backends.devices.scoring import DevicePrefixBackend

    if isinstance(backend, DevicePrefixBackend) and backend.record_ahead is not None:
        backend.record_ahead(backend)


def load_text_backend(
    bundle: Bundle, role: Role, config: EngineConfig = DEFAULTS, *, gpu: int = 0
) -> TextBackend:
    """Loads the graph of a role that takes texts; otherwise as `load_prefix_backend`, errors too."""
    view, backends = _backends(bundle, config.device)
    return warmed_up(backends.text(view, role, config, gpu), view, config, warm_up_texts)


def load_set_backend(
    bundle: Bundle, stored: StoredRows, config: EngineConfig = DEFAULTS, *, gpu: int = 0
) -> SetBackend:
    """Loads the graphs of a bundle that ranks sets, if the device does; otherwise as `load_prefix_backend`.

    `stored` has the rows of its tables, which graphs may gather.
    """
    view, load = _if_run(bundle, config, lambda backends: backends.sets)
    return warmed_up(load(view, stored, config, gpu), view, config, warm_up_sets)


def load_marked_backend(
    bundle: Bundle, role: Role, config: EngineConfig = DEFAULTS, *, gpu: int = 0
) -> MarkedBackend:
    """Loads the graph of a role that answers at markers, if the device does; otherwise as `load_prefix_backend`."""
    view, load = _if_run(bundle, config, lambda backends: backends.marked)
    return warmed_up(load(view, role, config, gpu), view, config, warm_up_lists)


def load_decode_backend(bundle: Bundle, config: EngineConfig = DEFAULTS, *, gpu: int = 0) -> DecodeBackend:
    """Loads the graph of a bundle that writes, if the device does; otherwise as `load_prefix_backend`."""
    view, load = _if_run(bundle, config, lambda backends: backends.decode)
    return warmed_up(load(view, config, gpu), view, config, warm_up_writing)


def load_seq2seq_backend(bundle: Bundle, config: EngineConfig = DEFAULTS) -> Seq2SeqBackend:
    """Loads the backend of an encoder-decoder that writes, on the CPU; raises as `load_prefix_backend`.

    Raises InvalidRequest for another device as well.
    """
    require_cpu(bundle, config)
    with extras_named("device cpu"):
        from rankport.runtime.backends.ort.seq2seq import OnnxRuntimeSeq2SeqBackend

    return OnnxRuntimeSeq2SeqBackend(_DEVICES[config.device].view(bundle), config)


def require_cpu(bundle: Bundle, config: EngineConfig) -> None:
    """Raises InvalidRequest where a bundle of a kind that runs on the CPU alone is to run on another device."""
    does = bundle.manifest.on_cpu_alone
    if does is not None and config.device != "cpu":
        raise InvalidRequest(
            f"bundle {bundle.manifest.name!r} {does}, which device {config.device} does not yet: take --device cpu"
        )


def load_array_graph(bundle: Bundle, role: Role, config: EngineConfig = DEFAULTS) -> ArrayGraph:
    """Loads the graph of a role that takes plain arrays. It runs on the CPU, beside whatever device the others are on.

    Raises InvalidRequest as `load_prefix_backend`, BundleError if the graph cannot be loaded.
    """
    with extras_named("a graph on the CPU"):
        from rankport.runtime.backends.ort.cpu import OnnxRuntimeArrayGraph

    return OnnxRuntimeArrayGraph(_DEVICES[config.device].view(bundle), role, config)


def is_made_for(bundle: Bundle, device: Device) -> bool:
    """Says whether the bundle has graphs for a device, and for TensorRT plans, of whatever GPU."""
    if device == "tensorrt":
        return bool(stored_plans(bundle))
    return device == "cpu" or "onnx-cuda" in bundle.manifest.targets


def view_for(bundle: Bundle, device: Device) -> Bundle:
    """Views the graphs that a device runs. Raises `InvalidRequest` where there are none, as a load. Needs no device."""
    return _DEVICES[device].view(bundle)


def require_device(device: Device) -> None:
    """Raises BackendError if this machine cannot run bundles on it: cheap, to be asked before long work."""
    if device == "cpu":
        return
    from rankport.runtime.backends.devices.cuda.calls import load_cuda_runtime, require_gpu

    if device == "cuda":
        with extras_named("device cuda", "cuda"):
            from rankport.runtime.backends.ort.cuda import require_provider

        require_provider()
    require_gpu(load_cuda_runtime())


@dataclass(frozen=True, slots=True)
class _Backends:
    """Loaders of a device's backends, by contract; each takes the bundle, how to run it and the number of a GPU.

    Those of texts, and of texts with markers, also take the role of the graph.
    """

    prefix: Callable[[Bundle, EngineConfig, int], PrefixBackend]
    text: Callable[[Bundle, Role, EngineConfig, int], TextBackend]
    # With the rows of tables; None: it ranks none yet.
    sets: Callable[[Bundle, StoredRows, EngineConfig, int], SetBackend] | None = None
    decode: Callable[[Bundle, EngineConfig, int], DecodeBackend] | None = None  # None: it writes nothing yet
    marked: Callable[[Bundle, Role, EngineConfig, int], MarkedBackend] | None = None  # None: no lists yet


@dataclass(frozen=True, slots=True)
class _DeviceEntry:
    """Line of the table: the graphs of a bundle that a device runs, and how its backends are loaded."""

    view: Callable[[Bundle], Bundle]  # raises InvalidRequest if there are none
    backends: Callable[[Bundle], _Backends]  # of the whole bundle; imports what drives the device


def _view_for_cpu(bundle: Bundle) -> Bundle:
    """Views the graphs for a CPU, else others in fp32, which it computes too."""
    manifest = bundle.manifest
    views = [bundle.for_target(target) for target in sorted(manifest.targets, key="onnx-cpu".__ne__)]
    runnable = next((view for view in views if view.manifest.on_cpu), None)
    if runnable is None:
        half = f"is in {manifest.precision}, which a CPU does not compute in"
        does = "multiplies fp8 by fp8, which no CPU does" if manifest.precision == "fp32" else half
        raise InvalidRequest(f"bundle {manifest.name!r} {does}: {_way_out(manifest, 'onnx-cpu')}")
    return runnable


def _view_for_cuda(bundle: Bundle) -> Bundle:
    manifest = bundle.manifest
    if "onnx-cuda" not in manifest.targets:
        raise InvalidRequest(
            f"bundle {manifest.name!r} has graphs for {', '.join(manifest.targets)}, not for CUDA: "
            f"{_way_out(manifest, 'onnx-cuda')}"
        )
    return bundle.for_target("onnx-cuda")


def _view_for_tensorrt(bundle: Bundle) -> Bundle:
    """Views the graphs that `rankport build` makes plans of."""
    manifest = bundle.manifest
    if manifest.targets == ("onnx-cuda",):
        raise InvalidRequest(
            f"bundle {manifest.name!r} has graphs for onnx-cuda, whose operators TensorRT lacks: "
            f"{_way_out(manifest, 'tensorrt')}"
        )
    return bundle.for_target("tensorrt" if "tensorrt" in manifest.targets else "onnx-cpu")


def _cpu_backends(_: Bundle) -> _Backends:
    with extras_named("device cpu"):
        from rankport.runtime.backends.ort.cpu import OnnxRuntimePrefixBackend, OnnxRuntimeTextBackend
        from rankport.runtime.backends.ort.decoding import OnnxRuntimeDecodeBackend
        from rankport.runtime.backends.ort.marked import OnnxRuntimeMarkedBackend
        from rankport.runtime.backends.ort.sets import OnnxRuntimeSetBackend

    return _Backends(
        prefix=lambda bundle, config, _: OnnxRuntimePrefixBackend(bundle, config),
        text=lambda bundle, role, config, _: OnnxRuntimeTextBackend(bundle, role, config),
        sets=lambda bundle, stored, config, _: OnnxRuntimeSetBackend(bundle, config, stored),
        decode=lambda bundle, config, _: OnnxRuntimeDecodeBackend(bundle, config),
        marked=lambda bundle, role, config, _: OnnxRuntimeMarkedBackend(bundle, role, config),
    )


def _cuda_backends(_: Bundle) -> _Backends:
    with extras_named("device cuda", "cuda"):
        from rankport.runtime.backends.ort import cuda

    return _Backends(
        prefix=lambda bundle, config, gpu: cuda.cuda_prefix_backend(bundle, config, device=gpu),
        text=lambda bundle, role, config, gpu: cuda.cuda_text_backend(bundle, role, config, device=gpu),
        sets=lambda bundle, stored, config, gpu: cuda.cuda_set_backend(bundle, stored, config, device=gpu),
        decode=lambda bundle, config, gpu: cuda.cuda_decode_backend(bundle, config, device=gpu),
        marked=lambda bundle, role, config, gpu: cuda.cuda_marked_backend(bundle, role, config, device=gpu),
    )


def _tensorrt_backends(whole: Bundle) -> _Backends:
    from rankport.runtime.backends.trial.loading import load_prefix_plans, load_text_plans

    return _Backends(
        prefix=lambda bundle, config, gpu: load_prefix_plans(bundle, config, gpu, partial(_on_cpu, whole)),
        text=lambda bundle, role, config, gpu: load_text_plans(
            bundle, role, config, gpu, partial(_on_cpu, whole)
        ),
    )


def _on_cpu(bundle: Bundle) -> Bundle | None:
    try:
        return _view_for_cpu(bundle)
    except InvalidRequest:
        return None


_DEVICES: dict[Device, _DeviceEntry] = {
    "cpu": _DeviceEntry(_view_for_cpu, _cpu_backends),
    "cuda": _DeviceEntry(_view_for_cuda, _cuda_backends),
    "tensorrt": _DeviceEntry(_view_for_tensorrt, _tensorrt_backends),
}
_DEVICE_OF_TARGET: dict[Target, Device] = {"onnx-cpu": "cpu", "onnx-cuda": "cuda", "tensorrt": "tensorrt"}


def _backends(bundle: Bundle, device: Device) -> tuple[Bundle, _Backends]:
    entry = _DEVICES[device]
    return entry.view(bundle), entry.backends(bundle)


def _if_run(
    bundle: Bundle, config: EngineConfig, of: Callable[[_Backends], LoadT | None]
) -> tuple[Bundle, LoadT]:
    """Finds a loader that a device may lack, and the graphs that it loads. Raises InvalidRequest where it does."""
    entry = _DEVICES[config.device]
    load = of(entry.backends(bundle))
    if load is None:
        manifest = bundle.manifest
        raise InvalidRequest(
            f"bundle {manifest.name!r} {manifest.without_plans}, which device {config.device} does not yet: take "
            "--device cpu or cuda"
        )
    return entry.view(bundle), load


def _way_out(manifest: Manifest, lacking: Target) -> str:
    devices = [f"--device {_DEVICE_OF_TARGET[target]}" for target in manifest.targets if target != lacking]
    return f"take {' or '.join(devices)}, or export it with --target {lacking}"
