"""What this machine has, which targets it can build and run, and what to install for the rest.

Needs nothing but Python: whatever is missing is what it is there to tell. Libraries are tried in a process of their
own, so that one that cannot be loaded, or crashes, is a line of the report.
"""

import importlib.metadata
import json
import platform
import subprocess
import sys
from dataclasses import dataclass

from rankport.runtime.backends.devices.gpus import Gpu, cuda_of_driver, driver, gpus
from rankport.runtime.backends.tensorrt.module import CAPABILITIES, EXTRAS, PACKAGES, ModuleName

_TIMEOUT_S = 60
_CUDA_PROVIDER = "CUDAExecutionProvider"
_NO_GPU = "no NVIDIA GPU here"

# Distributions, any of which has what is meant, and the extra of rankport that installs it.
_PACKAGES: tuple[tuple[tuple[str, ...], str], ...] = (
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
    (PACKAGES["tensorrt"], EXTRAS["tensorrt"]),
    (PACKAGES["tensorrt_rtx"], EXTRAS["tensorrt_rtx"]),
    (("cuda-bindings", "cuda-python"), EXTRAS["tensorrt_rtx"]),
)
_EXPORT = ("torch", "transformers", "onnx", "onnxscript")
_RUNTIME = ("tokenizers", "pydantic", "lmdb")
_ONNX_CUDA_INSTALL = "pip uninstall -y onnxruntime && pip install 'rankport[cuda]'"


@dataclass(frozen=True, slots=True)
class Package:
    """One installed package, or one that is not."""

    name: str
    version: str | None
    extra: str  # of rankport, that installs it; empty: it comes with rankport


@dataclass(frozen=True, slots=True)
class Target:
    """Whether this machine can make and run one target; a reason stands where it cannot."""

    name: str
    build_problem: str  # empty: it can be built here
    run_problem: str  # empty: it can be run here
    install: str  # the command that helps where something is not installed; empty where none would


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All of it."""

    python: str
    machine: str
    driver: str | None
    cuda: str | None  # the newest that the driver runs
    gpus: tuple[Gpu, ...]
    onnxruntime_providers: tuple[str, ...]
    packages: tuple[Package, ...]
    targets: tuple[Target, ...]


def diagnose() -> Diagnosis:
    """Looks around. Takes seconds; never raises."""
    packages = tuple(_package(names, extra) for names, extra in _PACKAGES)
    have = {package.name for package in packages if package.version is not None}
    here = gpus()
    providers, runtime_problem = _providers()
    return Diagnosis(
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        driver=driver(),
        cuda=cuda_of_driver(),
        gpus=here,
        onnxruntime_providers=providers,
        packages=packages,
        targets=(
            _onnx_cpu(have, runtime_problem),
            _onnx_cuda(have, here, providers, runtime_problem),
            _tensorrt("tensorrt", have, here),
            _tensorrt("tensorrt_rtx", have, here),
        ),
    )


def _package(names: tuple[str, ...], extra: str) -> Package:
    for name in names:
        version = _version(name)
        if version is not None:
            return Package(name, version, extra)
    return Package(names[-1] if names[0].endswith("-gpu") else names[0], None, extra)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _onnx_cpu(have: set[str], runtime_problem: str) -> Target:
    build, run = _missing(have, (*_EXPORT, *_RUNTIME)), runtime_problem or _missing(have, _RUNTIME)
    return Target("onnx-cpu", build, run, _pip("export" if build else "runtime") if build or run else "")


def _onnx_cuda(
    have: set[str], here: tuple[Gpu, ...], providers: tuple[str, ...], runtime_problem: str
) -> Target:
    build = _missing(have, (*_EXPORT, *_RUNTIME))
    lacking = _missing(have, _RUNTIME) or runtime_problem
    if not lacking and _CUDA_PROVIDER not in providers:
        lacking = f"onnxruntime here has no {_CUDA_PROVIDER}"
    install = _pip("export") if build else _ONNX_CUDA_INSTALL if lacking and here else ""
    return Target("onnx-cuda", build, lacking if here else _NO_GPU, install)


def _tensorrt(module: ModuleName, have: set[str], here: tuple[Gpu, ...]) -> Target:
    known = CAPABILITIES[module].targets
    problem = _import_problem(module, "")[1]
    lacking = _missing(have, _RUNTIME)
    unable = problem or lacking
    build = unable or ("" if known or here else f"{_NO_GPU}, and it builds for the one at hand")
    run = _NO_GPU if not here else unable or _cannot_run(have, known, here)
    helps = bool(unable) or (bool(here) and "cuda-bindings" in run)
    return Target(module.replace("_", "-"), build, run, _pip(EXTRAS[module]) if helps else "")


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


def _providers() -> tuple[tuple[str, ...], str]:
    """ONNX Runtime's providers, and why there are none."""
    output, problem = _import_problem("onnxruntime", "json.dumps(module.get_available_providers())")
    try:
        return tuple(json.loads(output or "[]")), problem
    except ValueError:
        return (), problem or "onnxruntime does not list its providers"


def _import_problem(module: str, expression: str) -> tuple[str, str]:
    """What an expression over a module gives, and why the module cannot be loaded (empty if it can)."""
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
