"""TensorRT as this process runs it, what it can do, and what it logs: `tensorrt`, or `tensorrt_rtx` with the same API.

The only module that imports either; they are loaded when asked for.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from rankport.protos.errors import BackendError
from rankport.protos.installed import packages

log = logging.getLogger(__name__)

ModuleName = Literal["tensorrt", "tensorrt_rtx"]
MODULE_NAMES: tuple[ModuleName, ...] = get_args(ModuleName)  # the better first, where both are

EXTRAS: dict[ModuleName, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
"""The extra of rankport that installs each."""

PACKAGES: dict[ModuleName, tuple[str, ...]] = {
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt_rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13"),
}
"""Names of the packages that may hold each."""

_NO_GPU = ("catchCudaError", "cudaError 35")
"""Parts of a line that follows any error on a machine without a GPU, and says nothing about the graph."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Abilities that one of the two modules has and the other lacks."""

    # Architectures that it builds for without a GPU; none: for the GPU at hand alone.
    targets: tuple[str, ...]
    timing_cache: bool
    hardware_compatibility: bool
    optimization_levels: bool
    fp32_without_tf32: bool  # products stay in fp32 where that is asked for
    low_bits_without_gpu: bool  # graphs with Q/DQ nodes build for a target where there is no GPU


CAPABILITIES: dict[ModuleName, Capabilities] = {
    "tensorrt": Capabilities(
        targets=(),
        timing_cache=True,
        hardware_compatibility=True,
        optimization_levels=True,
        fp32_without_tf32=True,
        low_bits_without_gpu=False,
    ),
    "tensorrt_rtx": Capabilities(
        targets=("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"),
        timing_cache=False,  # its calls are there and do nothing
        hardware_compatibility=False,  # a plan may have several targets instead
        optimization_levels=False,  # each makes the same bytes
        fp32_without_tf32=True,
        low_bits_without_gpu=True,
    ),
}
"""Abilities of the versions that the extras install."""

_OLDER_RTX = (1, 7)
"""TensorRT-RTX before this (1.4.0.76 was tried) keeps TF32 on, and asks the GPU at hand when it builds low bits."""


@dataclass(frozen=True, slots=True)
class TensorRt:
    """Loaded module."""

    name: ModuleName
    version: str
    api: Any  # the module itself: the names of 11.4 are those of both

    @property
    def can(self) -> Capabilities:
        """Abilities of the module in its version."""
        abilities = CAPABILITIES[self.name]
        if self.name == "tensorrt":
            return abilities
        named = self.api.ComputeCapability.__members__
        abilities = replace(
            abilities, targets=tuple(target for target in abilities.targets if target.upper() in named)
        )
        if _release(self.version) >= _OLDER_RTX:
            return abilities
        return replace(abilities, fp32_without_tf32=False, low_bits_without_gpu=False)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def installed_version(name: ModuleName) -> str | None:
    """Returns the version of the package that holds a module, which is not loaded; None if there is none."""
    versions = (packages.installed_version(package) for package in PACKAGES[name])
    return next((version for version in versions if version is not None), None)


def load_tensorrt(name: ModuleName | None = None) -> TensorRt:
    """Loads the module `name`, or the first that can be loaded.

    Raises:
        BackendError: it is not installed, or its libraries cannot be loaded; the message says what to install.
    """
    reasons = []
    for candidate in MODULE_NAMES if name is None else (name,):
        try:
            api = _import(candidate)
        except (ImportError, OSError, RuntimeError) as error:
            reasons.append(f"{candidate}: {error}: pip install 'rankport[{EXTRAS[candidate]}]'")
        else:
            return TensorRt(candidate, str(api.__version__), api)
    raise BackendError(f"TensorRT cannot be loaded: {'; '.join(reasons)}")


def make_log(module: TensorRt) -> Any:
    """Makes a logger of the module's own class that keeps errors for `take_errors` and passes all on to `logging`."""
    levels = module.api.ILogger.Severity

    class Log(module.api.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if all(part in message for part in _NO_GPU):
                return
            if severity in (levels.ERROR, levels.INTERNAL_ERROR):
                self.errors.append(message)
            # Whoever calls raises what went wrong; at `debug` a user sees TensorRT's own words too.
            log.debug("%s: %s", severity.name, message)

    return Log()


def take_errors(logger: Any) -> str:
    """Returns what the module logged as errors since the last call, in one line."""
    errors, logger.errors = logger.errors, []
    return "; ".join(dict.fromkeys(errors)) or "it gave no reason"


def _import(name: ModuleName) -> Any:
    if name == "tensorrt":
        import tensorrt

        return tensorrt
    import tensorrt_rtx

    return tensorrt_rtx
