"""Diagnosis of this machine: what it has, which targets it can build and run, and what to install for the rest.

Needs nothing but Python: whatever is missing is what it is there to tell. Libraries are tried in a process of their
own, so that one that cannot be loaded, or crashes, is a line of the report.
"""

import json
import platform
import subprocess
import sys
from dataclasses import dataclass

from rankport.protos.installed.extras import CUDA_INSTALL
from rankport.protos.installed.packages import installed_version
from rankport.runtime.backends.devices.cuda.gpus import (
    Gpu,
    find_cuda_of_driver,
    find_driver,
    list_gpus,
    no_gpu_reason,
)
from rankport.runtime.backends.tensorrt.module import CAPABILITIES, EXTRAS, ModuleName
from rankport.runtime.backends.tensorrt.module import PACKAGES as TENSORRT_PACKAGES

_TIMEOUT_S = 60
_CUDA_PROVIDER = "CUDAExecutionProvider"
_LEAST_OF_CUDA = 75  # from CUDA 13 on: Turing
_ARCHITECTURES = "' '.join(module.ComputeCapability.__members__)"  # that the version of a module names

PACKAGES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("onnxruntime-gpu", "onnxruntime"), "runtime"),
    (("tokenizers",), "runtime"),
    (("pydantic",), "runtime"),
    (("lmdb",), "runtime"),
    (("grpcio",), ""),
    (("protobuf",), ""),
    (("numpy",), ""),
    (("pyarrow",), "parquet"),
    (("torch",), "export"),
    (("transformers",), "export"),
    (("onnx",), "export"),
    (("onnxscript",), "export"),
    (TENSORRT_PACKAGES["tensorrt"], EXTRAS["tensorrt"]),
    (TENSORRT_PACKAGES["tensorrt_rtx"], EXTRAS["tensorrt_rtx"]),
    (("cuda-bindings", "cuda-python"), EXTRAS["tensorrt_rtx"]),
)
"""Distributions, any of which has what is meant, and the extra of rankport that installs it."""

_EXPORT = ("torch", "transformers", "onnx", "onnxscript")
_RUNTIME = ("tokenizers", "pydantic", "lmdb")


@dataclass(frozen=True, slots=True)
class Package:
    """Package, installed or not."""

    name: str
    version: str | None
    extra: str  # of rankport, that installs it; empty: it comes with rankport


@dataclass(frozen=True, slots=True)
class TargetDiagnosis:
    """Target, and whether this machine can make and run it; a reason stands where it cannot."""

    name: str
    build_problem: str  # empty: it can be built here
    run_problem: str  # empty: it can be run here
    install: str  # the command that helps where something is not installed; empty where none would


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Findings of `diagnose`."""

    python: str
    machine: str
    driver: str | None
    cuda: str | None  # the newest that the driver runs
    gpus: tuple[Gpu, ...]
    onnxruntime_providers: tuple[str, ...]
    packages: tuple[Package, ...]
    targets: tuple[TargetDiagnosis, ...]


class Machine:
    """Machine at hand, as it is asked. Never raises."""

    def version(self, package: str) -> str | None:
        """Returns the version of an installed package; None if it is not installed."""
        return installed_version(package)

    def evaluate(self, module: str, expression: str = "''") -> tuple[str, str]:
        """Returns what an expression over `module` gives, and why that cannot be loaded (empty if it can).

        It is loaded in a process of its own.
        """
        code = (
            f"import importlib, json\ntry:\n    module = importlib.import_module({module!r})\n"
            f"except Exception as error:\n    raise SystemExit(f'{{error}}')\nprint({expression})"
        )
        try:
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            return "", f"{module} could not be tried: {error}"
        if done.returncode == 0:
            return done.stdout.strip(), ""
        lines = done.stderr.strip().splitlines()
        if f"No module named '{module}'" in done.stderr:
            return "", f"{module} is not installed"
        return "", f"{module} does not load: {lines[-1] if lines else f'exit code {done.returncode}'}"

    def gpus(self) -> tuple[Gpu, ...]:
        """Lists its GPUs."""
        return list_gpus()

    def no_gpu(self) -> str:
        """Says why there are none."""
        return no_gpu_reason()


def diagnose(machine: Machine | None = None) -> Diagnosis:
    """Looks around. Takes seconds; never raises."""
    machine = machine or Machine()
    packages = tuple(_package(machine, names, extra) for names, extra in PACKAGES)
    have = {package.name for package in packages if package.version is not None}
    here = machine.gpus()
    no_gpu = "" if here else machine.no_gpu()
    providers, runtime_problem = _providers(machine)
    return Diagnosis(
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        driver=find_driver(),
        cuda=find_cuda_of_driver(),
        gpus=here,
        onnxruntime_providers=providers,
        packages=packages,
        targets=(
            _onnx_cpu(have, runtime_problem),
            _onnx_cuda(machine, have, here, no_gpu, providers, runtime_problem),
            _tensorrt(machine, "tensorrt", have, here, no_gpu),
            _tensorrt(machine, "tensorrt_rtx", have, here, no_gpu),
        ),
    )


def _package(machine: Machine, names: tuple[str, ...], extra: str) -> Package:
    for name in names:
        version = machine.version(name)
        if version is not None:
            return Package(name, version, extra)
    return Package(names[-1] if names[0].endswith("-gpu") else names[0], None, extra)


def _onnx_cpu(have: set[str], runtime_problem: str) -> TargetDiagnosis:
    build, run = _missing(have, (*_EXPORT, *_RUNTIME)), runtime_problem or _missing(have, _RUNTIME)
    return TargetDiagnosis(
        "onnx-cpu", build, run, _pip("export" if build else "runtime") if build or run else ""
    )


def _onnx_cuda(
    machine: Machine,
    have: set[str],
    here: tuple[Gpu, ...],
    no_gpu: str,
    providers: tuple[str, ...],
    runtime_problem: str,
) -> TargetDiagnosis:
    build = _missing(have, (*_EXPORT, *_RUNTIME))
    lacking = _missing(have, _RUNTIME) or runtime_problem
    if not lacking and _CUDA_PROVIDER not in providers:
        lacking = f"onnxruntime here has no {_CUDA_PROVIDER}"
    elif not lacking and not no_gpu:
        lacking = _lacking_libraries(machine)
    if lacking and not no_gpu:  # first what this machine alone can do: any other builds, too
        install = CUDA_INSTALL
    else:  # which brings an onnxruntime without CUDA
        install = " && ".join([_pip("export"), *([] if no_gpu else [CUDA_INSTALL])]) if build else ""
    return TargetDiagnosis("onnx-cuda", build, no_gpu or _too_old(here) or lacking, install)


def _too_old(here: tuple[Gpu, ...]) -> str:
    """Says that no GPU is of an architecture that the CUDA of `rankport[cuda]` has kernels for."""
    if any(int(gpu.architecture.removeprefix("sm")) >= _LEAST_OF_CUDA for gpu in here):
        return ""
    return f"CUDA 13 runs on sm{_LEAST_OF_CUDA} and later; here is {here[0].architecture}" if here else ""


def _lacking_libraries(machine: Machine) -> str:
    """Tells the libraries of CUDA that ONNX Runtime does not find, of packages or of the system."""
    printed, problem = machine.evaluate("onnxruntime", "module.preload_dlls() or ''")
    return problem or "; ".join(line for line in printed.splitlines() if line.startswith("Failed"))


def _tensorrt(
    machine: Machine, module: ModuleName, have: set[str], here: tuple[Gpu, ...], no_gpu: str
) -> TargetDiagnosis:
    listed = CAPABILITIES[module].targets
    named, problem = machine.evaluate(module, _ARCHITECTURES if listed else "''")
    known = tuple(target for target in listed if problem or target.upper() in named.split())
    lacking = _missing(have, _RUNTIME)
    unable = problem or lacking
    build = unable or ("" if known or here else f"it builds for the GPU at hand alone: {no_gpu}")
    run = no_gpu or unable or _cannot_run(have, known, here)
    helps = bool(unable) or (bool(here) and "cuda-bindings" in run)
    return TargetDiagnosis(module.replace("_", "-"), build, run, _pip(EXTRAS[module]) if helps else "")


def _cannot_run(have: set[str], known: tuple[str, ...], here: tuple[Gpu, ...]) -> str:
    if not have & {"cuda-bindings", "cuda-python"}:
        return "cuda-bindings is not installed"
    if known and all(gpu.architecture not in known for gpu in here):
        return f"it runs on {', '.join(known)}; here is {here[0].architecture}"
    return ""


def _missing(have: set[str], names: tuple[str, ...]) -> str:
    lacking = [name for name in names if name not in have]
    return f"{', '.join(lacking)} not installed" if lacking else ""


def _pip(extra: str) -> str:
    return f"pip install 'rankport[{extra}]'"


def _providers(machine: Machine) -> tuple[tuple[str, ...], str]:
    """Returns ONNX Runtime's providers, and why there are none."""
    output, problem = machine.evaluate("onnxruntime", "json.dumps(module.get_available_providers())")
    try:
        return tuple(json.loads(output or "[]")), problem
    except ValueError:
        return (), problem or "onnxruntime does not list its providers"
