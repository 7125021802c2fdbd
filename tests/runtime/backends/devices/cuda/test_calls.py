"""Fate of CUDA's answers: errors with their reason, a device that is lost, machines without a GPU.

The driver is played: what is tested is what we make of it. With a GPU the conformance tests run the real one.
"""

import threading

import pytest

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import DeviceLost
from rankport.runtime.backends.devices.cuda.calls import CudaStream
from rankport.runtime.backends.devices.cuda.memory import CudaMemory
from rankport.runtime.backends.devices.cuda.recording import record
from support.gpu.cuda_driver import CudaDriver, Errors

BROKEN = Errors.cudaErrorIllegalAddress


def test_an_error_has_its_reason_and_is_not_met_again(driver: CudaDriver) -> None:
    cuda = CudaStream()
    driver.failing = {"cudaMallocAsync": Errors.cudaErrorMemoryAllocation}
    with pytest.raises(BackendError, match="cudaMallocAsync failed: cudaErrorMemoryAllocation"):
        cuda.call("cudaMallocAsync", 10, cuda.handle)
    assert driver.cleared == 1
    driver.failing = {}
    assert cuda.call("cudaMallocAsync", 10, cuda.handle) == 4096


def test_a_device_that_answers_every_call_with_an_error_is_lost(driver: CudaDriver) -> None:
    memory = CudaMemory()
    driver.failing = {"cudaMemsetAsync": BROKEN, "cudaStreamQuery": BROKEN}
    with pytest.raises(DeviceLost, match="cudaErrorIllegalAddress"):
        memory.clear(1, 2)
    driver.failing = {"cudaMemsetAsync": BROKEN, "cudaStreamQuery": Errors.cudaErrorNotReady}  # still at work
    with pytest.raises(BackendError):
        memory.clear(1, 2)


def test_a_recording_meets_a_lost_device_as_memory_does(driver: CudaDriver) -> None:
    cuda = CudaStream()
    recording = record(cuda, lambda: None)
    driver.failing = {"cudaGraphLaunch": BROKEN, "cudaStreamQuery": BROKEN}
    with pytest.raises(DeviceLost, match="cudaGraphLaunch failed: cudaErrorIllegalAddress"):
        recording.launch()
    driver.failing = {"cudaStreamBeginCapture": BROKEN, "cudaStreamQuery": BROKEN}
    with pytest.raises(DeviceLost, match="cudaStreamBeginCapture"):
        record(cuda, lambda: None)


def test_a_stream_that_may_not_be_asked_while_it_is_recorded_is_not_lost(driver: CudaDriver) -> None:
    cuda = CudaStream()
    driver.failing = {
        "cudaMemcpyAsync": Errors.cudaErrorStreamCaptureUnsupported,
        "cudaStreamQuery": Errors.cudaErrorStreamCaptureUnsupported,
    }
    with pytest.raises(BackendError, match="cudaErrorStreamCaptureUnsupported"):
        record(cuda, lambda: cuda.call("cudaMemcpyAsync"))


def test_a_machine_without_a_gpu_is_told_where_to_look(driver: CudaDriver) -> None:
    driver.devices = 0
    with pytest.raises(BackendError, match=r"no NVIDIA GPU.*rankport doctor"):
        CudaStream()


def test_each_thread_is_told_the_device_once(driver: CudaDriver) -> None:
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


def test_no_thread_is_bound_by_what_another_records(driver: CudaDriver) -> None:
    told = list[tuple[int, int]]()
    driver.cudaThreadExchangeStreamCaptureMode = lambda mode: (
        told.append((mode, threading.get_ident())),
        (Errors.cudaSuccess, 0),
    )[1]
    memory = CudaMemory()
    thread = threading.Thread(target=lambda: [memory.clear(0, 1) for _ in range(2)])
    thread.start()
    number = thread.ident
    thread.join()
    thread_local = driver.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    assert told == [(thread_local, threading.get_ident()), (thread_local, number)]


def test_a_gpu_that_is_not_there_is_named(driver: CudaDriver) -> None:
    with pytest.raises(BackendError, match="GPU 1: this machine has 1, numbered from 0"):
        CudaStream(1)


def test_a_driver_without_a_gpu_is_told_with_its_reason(driver: CudaDriver) -> None:
    driver.cudaGetDeviceCount = lambda: (Errors.cudaErrorNotReady, None)  # type: ignore[method-assign]
    with pytest.raises(BackendError, match=r"no NVIDIA GPU.*cudaErrorNotReady"):
        CudaStream()
