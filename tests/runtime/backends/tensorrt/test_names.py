"""Every name of TensorRT that we call is in TensorRT-RTX, and in TensorRT 11.4's bindings over stub libraries."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from support.gpu.tensorrt_names import SOURCES, lacking, names_used, write_stub_libraries

RTX_ONLY = {
    "ComputeCapability",
    "ComputeCapability.__members__",
    "EngineInvalidityDiagnostics",
    "EngineInvalidityDiagnostics.__members__",
    "EngineValidity",
    "EngineValidity.INVALID",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "Runtime.get_engine_validity",
}
"""Behind `Capabilities.targets` and `hasattr`."""


def test_the_sources_are_read_for_names_of_every_kind() -> None:
    assert {
        "Builder",
        "Builder.create_network",
        "BuilderFlag.REFIT_IDENTICAL",
        "BuilderFlag.STRIP_PLAN",
        "ErrorCode.UNSUPPORTED_NODE",
        "HardwareCompatibilityLevel.AMPERE_PLUS",
        "IBuilderConfig.builder_optimization_level",
        "IBuilderConfig.create_timing_cache",
        "IBuilderConfig.get_timing_cache",
        "IBuilderConfig.hardware_compatibility_level",
        "IBuilderConfig.set_timing_cache",
        "IBuilderConfig.set_timing_cache(ignore_mismatch)",
        "IBuilderConfig.progress_monitor",
        "IExecutionContext.execute_async_v3",
        "ILogger.Severity.ERROR",
        "IProgressMonitor",
        "ITimingCache.serialize",
        "OnnxParserRefitter.refit_from_file",
        "Refitter",
        "Refitter.refit_cuda_engine",
        "TensorIOMode.INPUT",
        *RTX_ONLY,
    } <= names_used()


def test_tensorrt_rtx_has_every_name() -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed", exc_type=ImportError)
    assert lacking("tensorrt_rtx", names_used())[1] == set()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed: no stub libraries")
@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_bindings") is None,
    reason="the bindings are not installed: pip install tensorrt-cu13-bindings",
)
def test_tensorrt_has_every_name(tmp_path: Path) -> None:
    version, missing = lacking("tensorrt_bindings", names_used(), write_stub_libraries(tmp_path))
    assert int(version.split(".")[0]) >= 11
    assert missing == RTX_ONLY


def test_cuda_has_every_name() -> None:
    cuda = pytest.importorskip(
        "cuda.bindings.runtime", reason="cuda-bindings is not installed", exc_type=ImportError
    )
    text = "".join(
        file.read_text()
        for file in (*SOURCES.glob("*.py"), *(SOURCES.parent / "devices" / "cuda").glob("*.py"))
    )
    used = set(re.findall(r"\b(?:runtime|cuda|_cuda)\.(cuda\w+)|\"(cuda[A-Z]\w+)\"", text))
    names = {name for pair in used for name in pair if name}
    assert {"cudaGraphLaunch", "cudaGetDeviceProperties", "cudaMalloc"} <= names
    assert [name for name in sorted(names) if not hasattr(cuda, name)] == []
