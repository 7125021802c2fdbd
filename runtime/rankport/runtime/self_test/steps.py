"""Steps of a self-test as they run in their own process: what each does, and the words in which it ends.

A step returns what it found. Where it cannot run at all it raises `CannotRun` with the reason by name; any other error
is a failure of something that is installed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rankport.protos.errors import BackendError, UnsupportedGpu
from rankport.runtime.backends.devices.cuda.gpus import list_gpus, no_gpu_reason
from rankport.runtime.backends.tensorrt.module import ModuleName, TensorRt, load_tensorrt

_ELSEWHERE = "sm89"
"""Architecture that is built for where there is no GPU that the module lists."""


class CannotRun(Exception):  # noqa: N818  # no fault
    """Step that this machine cannot run."""


@dataclass(frozen=True, slots=True)
class Found:
    """Findings of a step."""

    ran: str  # in words
    version: str
    gpu: str = ""  # its name and architecture, or the architecture that was built for
    largest_difference: float | None = None
    limit: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """Settings that a step is given."""

    folder: Path  # of this self-test, where plans lie
    allow_unsupported_gpu: bool


def run_on_cpu(_: Setting) -> Found:
    """Runs the sample in ONNX Runtime on the CPU, against torch's numbers."""
    try:
        from rankport.runtime.backends.ort.session import loaded_version
    except ImportError as error:
        raise CannotRun(f"onnxruntime does not load: {error}: pip install 'rankport[runtime]'") from None
    from rankport.runtime.backends.trial.devices import cpu_difference

    found, limit = cpu_difference()
    return Found("prefill and score, against torch", loaded_version(), "", found.largest, limit)


def run_on_cuda(_: Setting) -> Found:
    """Runs it in ONNX Runtime on the first GPU, against the CPU."""
    gpu = _gpu()
    try:
        from rankport.runtime.backends.ort.cuda import require_provider
        from rankport.runtime.backends.ort.session import loaded_version
    except ImportError as error:
        raise CannotRun(f"onnxruntime does not load: {error}: pip install 'rankport[cuda]'") from None
    try:
        require_provider()
    except BackendError as error:
        raise CannotRun(str(error)) from None
    from rankport.runtime.backends.trial.devices import cuda_difference

    found, limit = cuda_difference()
    return Found("prefill and score", loaded_version(), gpu, found.largest, limit)


def build_plans_of(module: ModuleName) -> Callable[[Setting], Found]:
    """Makes the step that builds the sample's plans: for the GPU at hand if it may, else for another."""

    def build(setting: Setting) -> Found:
        loaded = _loaded(module)
        from rankport.runtime.backends.tensorrt.build import BuildTarget
        from rankport.runtime.backends.trial.devices import build_sample

        target, machine = _target(loaded, setting)
        build_sample(
            BuildTarget(module, (target,)),
            plans_at(setting, module),
            allow_unsupported_gpu=setting.allow_unsupported_gpu,
        )
        return Found("two plans built", loaded.version, machine)

    return build


def run_plans_of(module: ModuleName) -> Callable[[Setting], Found]:
    """Makes the step that runs the plans of the build, against the CPU."""

    def run(setting: Setting) -> Found:
        loaded, gpu = _loaded(module), _gpu()
        from rankport.runtime.backends.tensorrt.validity import TRY
        from rankport.runtime.backends.trial.devices import run_sample
        from rankport.runtime.backends.trial.sample import open_sample

        if not _may_build_for_gpu(loaded, setting):
            listed = ", ".join(loaded.can.targets)
            raise CannotRun(f"it lists {listed}; here is {list_gpus()[0].architecture}: {TRY}")
        try:
            found, limit = run_sample(
                open_sample(plans_at(setting, module)).for_target("onnx-cpu"),
                module,
                allow_unsupported_gpu=setting.allow_unsupported_gpu,
            )
        except UnsupportedGpu as error:
            raise CannotRun(str(error)) from None
        note = "" if loaded.can.fp32_without_tf32 else "this version keeps TF32 on: the limit is TF32's"
        return Found("prefill and score", loaded.version, gpu, found.largest, limit, note)

    return run


def plans_at(setting: Setting, module: ModuleName) -> Path:
    """Returns the copy of the sample that gets the plans of a module."""
    return setting.folder / module


STEPS: dict[str, Callable[[Setting], Found]] = {
    "onnxruntime cpu": run_on_cpu,
    "onnxruntime cuda": run_on_cuda,
    "tensorrt build": build_plans_of("tensorrt"),
    "tensorrt run": run_plans_of("tensorrt"),
    "tensorrt_rtx build": build_plans_of("tensorrt_rtx"),
    "tensorrt_rtx run": run_plans_of("tensorrt_rtx"),
}


def _loaded(module: ModuleName) -> TensorRt:
    try:
        return load_tensorrt(module)
    except BackendError as error:
        raise CannotRun(str(error)) from None


def _gpu() -> str:
    here = list_gpus()
    if not here:
        raise CannotRun(no_gpu_reason())
    return f"{here[0].name} ({here[0].architecture})"


def _target(module: TensorRt, setting: Setting) -> tuple[str | None, str]:
    """Returns what to build for, None for the GPU at hand, and its name."""
    here = list_gpus()
    if here and _may_build_for_gpu(module, setting):
        return None, _gpu()
    if not module.can.targets:
        raise CannotRun(f"it builds for the GPU at hand alone: {no_gpu_reason()}")
    return _ELSEWHERE, _ELSEWHERE


def _may_build_for_gpu(module: TensorRt, setting: Setting) -> bool:
    listed = module.can.targets
    return not listed or setting.allow_unsupported_gpu or list_gpus()[0].architecture in listed
