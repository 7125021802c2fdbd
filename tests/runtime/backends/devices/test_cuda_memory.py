"""What becomes of CUDA's answers: errors with their reason, a device that is lost, page-locked memory that ends.

The driver is played: what is tested is what we make of it. With a GPU the conformance tests run the real one.
"""

import gc
import threading
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import pytest

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import DeviceLost
from rankport.runtime.backends.devices import cuda_memory
from rankport.runtime.backends.devices.cuda_memory import CudaMemory


class Errors(IntEnum):
    cudaSuccess = 0  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorNotReady = 600  # noqa: N815
    cudaErrorIllegalAddress = 700  # noqa: N815


class Driver:
    """Answers every call with success and a number, but for those it is told to fail."""

    def __init__(self, devices: int = 1) -> None:
        self.cudaError_t = Errors
        self.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
        self.cudaMemPoolAttr = SimpleNamespace(cudaMemPoolAttrReleaseThreshold=4)
        self.cudaStreamNonBlocking = self.cudaHostAllocDefault = 1
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
        import ctypes

        self._hosts.append((ctypes.c_uint8 * nbytes)())
        return Errors.cudaSuccess, ctypes.addressof(self._hosts[-1])

    def cudaFreeHost(self, pointer: int) -> tuple[Errors]:  # noqa: N802
        self.freed.append(pointer)
        return (Errors.cudaSuccess,)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: (self.failing.get(name, Errors.cudaSuccess), 4096)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setattr(cuda_memory, "load_cuda_runtime", lambda: made)
    return made


def test_an_error_has_its_reason_and_is_not_met_again(driver: Driver) -> None:
    memory = CudaMemory()
    driver.failing = {"cudaMallocAsync": Errors.cudaErrorMemoryAllocation}
    with pytest.raises(BackendError, match="cudaMallocAsync failed: cudaErrorMemoryAllocation"):
        memory.allocate(10)
    assert driver.cleared == 1
    with pytest.raises(BackendError, match=r"no 1.0 GiB for the prefix cache: lower --prefix-cache-bytes"):
        memory.reserve(2**30)
    driver.failing = {}
    assert memory.allocate(10).nbytes == 10


def test_a_device_that_answers_every_call_with_an_error_is_lost(driver: Driver) -> None:
    memory = CudaMemory()
    broken = Errors.cudaErrorIllegalAddress
    driver.failing = {"cudaMemsetAsync": broken, "cudaStreamQuery": broken}
    with pytest.raises(DeviceLost, match="cudaErrorIllegalAddress"):
        memory.clear(1, 2)
    driver.failing = {"cudaMemsetAsync": broken, "cudaStreamQuery": Errors.cudaErrorNotReady}  # still at work
    with pytest.raises(BackendError):
        memory.clear(1, 2)


def test_page_locked_memory_is_freed_with_the_last_view_of_it(driver: Driver) -> None:
    memory = CudaMemory()
    whole = memory.staging(64)
    part = whole[8:16]
    part[:] = 7
    del whole
    gc.collect()
    assert driver.freed == []
    del part
    gc.collect()
    assert len(driver.freed) == 1


def test_a_machine_without_a_gpu_is_told_where_to_look(driver: Driver) -> None:
    driver.devices = 0
    with pytest.raises(BackendError, match=r"no NVIDIA GPU.*rankport doctor"):
        CudaMemory()


def test_each_thread_is_told_the_device_once(driver: Driver) -> None:
    driver.devices, told = 2, []
    driver.cudaSetDevice = lambda device: (told.append(device), (Errors.cudaSuccess,))[1]
    first, second = CudaMemory(0), CudaMemory(1)
    second.clear(0, 1)
    assert told == [0, 1]
    for memory in (second, first):
        thread = threading.Thread(target=lambda memory=memory: [memory.clear(0, 1) for _ in range(3)])
        thread.start()
        thread.join()
    assert told == [0, 1, 1, 0]
    assert (first.device, second.device) == (0, 1)


def test_a_gpu_that_is_not_there_is_named(driver: Driver) -> None:
    with pytest.raises(BackendError, match="GPU 1: this machine has 1, numbered from 0"):
        CudaMemory(1)


def test_a_driver_without_a_gpu_is_told_with_its_reason(driver: Driver) -> None:
    driver.cudaGetDeviceCount = lambda: (Errors.cudaErrorNotReady, None)  # type: ignore[method-assign]
    with pytest.raises(BackendError, match=r"no NVIDIA GPU.*cudaErrorNotReady"):
        CudaMemory()
