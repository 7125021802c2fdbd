"""A stand-in for the CUDA runtime of a machine: it answers calls, and fails those it is told to."""

import ctypes
from enum import IntEnum
from types import SimpleNamespace
from typing import Any


class Errors(IntEnum):
    """Errors of the runtime, by its own names and numbers."""

    cudaSuccess = 0  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorNotReady = 600  # noqa: N815
    cudaErrorIllegalAddress = 700  # noqa: N815
    cudaErrorStreamCaptureUnsupported = 900  # noqa: N815


class CudaDriver:
    """Answers every call with success and a number, but for those it is told to fail."""

    def __init__(self, devices: int = 1) -> None:
        self.cudaError_t = Errors
        self.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
        self.cudaMemPoolAttr = SimpleNamespace(cudaMemPoolAttrReleaseThreshold=4)
        self.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
        self.cudaStreamNonBlocking = self.cudaHostAllocDefault = 1
        self.cudaEventBlockingSync, self.cudaEventDisableTiming = 1, 2
        self.devices, self.failing, self.freed, self.cleared = devices, dict[str, Errors](), [], 0  # type: ignore[var-annotated]
        self._hosts: list[Any] = []

    def cudaGetDeviceCount(self) -> tuple[Errors, int]:  # noqa: N802
        return Errors.cudaSuccess, self.devices

    def cudaGetErrorString(self, error: Errors) -> tuple[Errors, bytes]:  # noqa: N802
        return Errors.cudaSuccess, error.name.encode()

    def cudaGetLastError(self) -> tuple[Errors]:  # noqa: N802
        self.cleared += 1
        return (Errors.cudaSuccess,)

    def cudaHostAlloc(self, nbytes: int, flags: int) -> tuple[Errors, int]:  # noqa: N802
        self._hosts.append((ctypes.c_uint8 * nbytes)())
        return Errors.cudaSuccess, ctypes.addressof(self._hosts[-1])

    def cudaFreeHost(self, pointer: int) -> tuple[Errors]:  # noqa: N802
        self.freed.append(pointer)
        return (Errors.cudaSuccess,)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: (self.failing.get(name, Errors.cudaSuccess), 4096)
