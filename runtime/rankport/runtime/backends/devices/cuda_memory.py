"""Memory and the stream of an NVIDIA GPU, through cuda-python. Implements `DeviceMemory`.

Recordings of passes are `cuda_recording`'s, what GPUs there are is `gpus`'.
"""

import ctypes
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import DeviceLost
from rankport.runtime.backends.devices.memory import Buffer, Side, Transfers


class CudaMemory:
    """One stream of one GPU. Allocations are ordered by it: freed memory may be used again before it is done with.

    A thread that drives the memories of several GPUs loads them one after the other, and comes back to none.
    """

    def __init__(self, device: int = 0) -> None:
        self._cuda = load_cuda_runtime()
        self._device = device
        self._threads = (
            threading.local()
        )  # those that were told the device, as CUDA has a current one for each
        self._stream = 0  # until there is one, the default stream answers for the device
        require_gpu(self._cuda, device)
        self._stream = int(self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking))
        self._transfers = Transfers()
        self._keep_freed_memory()

    @property
    def device(self) -> int:
        """The GPU's number."""
        return self._device

    @property
    def stream(self) -> int:
        """See `DeviceMemory.stream`."""
        return self._stream

    @property
    def transfers(self) -> Transfers:
        """See `DeviceMemory.transfers`."""
        return self._transfers

    def allocate(self, nbytes: int) -> Buffer:
        """See `DeviceMemory.allocate`."""
        pointer = int(self._call("cudaMallocAsync", max(nbytes, 1), self._stream))
        return Buffer(pointer, nbytes, self._free)

    def reserve(self, nbytes: int) -> None:
        """Takes so much from the driver for later allocations, which would each wait for it otherwise.

        Raises BackendError when the device has less.
        """
        try:
            self.allocate(nbytes)  # given back to the pool at once, which keeps it
        except BackendError as error:
            raise BackendError(
                f"the GPU has no {nbytes / 2**30:.1f} GiB for the prefix cache: lower --prefix-cache-bytes ({error})"
            ) from error

    def staging(self, nbytes: int) -> NDArray[np.uint8]:
        """See `DeviceMemory.staging`. Page-locked, until nothing refers to it."""
        pointer = int(self._call("cudaHostAlloc", max(nbytes, 1), self._cuda.cudaHostAllocDefault))
        memory = (ctypes.c_uint8 * max(nbytes, 1)).from_address(pointer)
        weakref.finalize(memory, self._cuda.cudaFreeHost, pointer).atexit = False
        return np.ctypeslib.as_array(memory)[:nbytes]

    def upload(self, host: NDArray[np.uint8], pointer: int) -> None:
        """See `DeviceMemory.upload`."""
        self._transfers.to_device += host.nbytes
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", pointer, host.ctypes.data, host.nbytes, kind, self._stream)

    def download(self, pointer: int, host: NDArray[np.uint8]) -> None:
        """See `DeviceMemory.download`."""
        self._transfers.to_host += host.nbytes
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", host.ctypes.data, pointer, host.nbytes, kind, self._stream)

    def clear(self, pointer: int, nbytes: int) -> None:
        """See `DeviceMemory.clear`."""
        self._call("cudaMemsetAsync", pointer, 0, nbytes, self._stream)

    def copy(self, source: Side, target: Side, *, width: int, height: int, depth: int) -> None:
        """See `DeviceMemory.copy`."""
        self._transfers.on_device += width * height * depth
        cuda = self._cuda
        job = cuda.cudaMemcpy3DParms()
        job.srcPtr = cuda.make_cudaPitchedPtr(source.pointer, source.pitch, source.pitch, source.rows)
        job.dstPtr = cuda.make_cudaPitchedPtr(target.pointer, target.pitch, target.pitch, target.rows)
        job.extent = cuda.make_cudaExtent(width, height, depth)
        job.kind = cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call("cudaMemcpy3DAsync", job, self._stream)

    def mark(self) -> Callable[[], None]:
        """See `DeviceMemory.mark`."""
        flags = self._cuda.cudaEventDisableTiming | self._cuda.cudaEventBlockingSync
        event = self._call("cudaEventCreateWithFlags", flags)
        self._call("cudaEventRecord", event, self._stream)

        def wait() -> None:
            self._call("cudaEventSynchronize", event)
            self._call("cudaEventDestroy", event)

        return wait

    def close(self) -> None:
        """See `DeviceMemory.close`."""
        self._call("cudaStreamSynchronize", self._stream)
        self._stream, stream = 0, self._stream
        self._call("cudaStreamDestroy", stream)

    def _free(self, pointer: int) -> None:
        self._cuda.cudaFreeAsync(pointer, self._stream)

    def _keep_freed_memory(self) -> None:
        """The pool gives nothing back to the driver at each wait, which would take milliseconds again."""
        pool = self._call("cudaDeviceGetDefaultMemPool", self._device)
        attribute = self._cuda.cudaMemPoolAttr.cudaMemPoolAttrReleaseThreshold
        self._call("cudaMemPoolSetAttribute", pool, attribute, load_cuda_driver().cuuint64_t(2**63 - 1))

    def _call(self, name: str, *arguments: Any) -> Any:
        cuda = self._cuda
        if not getattr(self._threads, "told", False):
            self._threads.told = True
            self._call("cudaSetDevice", self._device)
        error, *results = getattr(cuda, name)(*arguments)
        if error == cuda.cudaError_t.cudaSuccess:
            return results[0] if results else None
        cuda.cudaGetLastError()  # else the next call would meet it again
        message = f"CUDA: {name} failed: {self._words(error)}"
        # What the device does not get over, it answers every call with.
        after = cuda.cudaStreamQuery(self._stream)[0]
        if after in (cuda.cudaError_t.cudaSuccess, cuda.cudaError_t.cudaErrorNotReady):
            raise BackendError(message)
        raise DeviceLost(message)

    def _words(self, error: Any) -> str:
        _, words = self._cuda.cudaGetErrorString(error)
        return words.decode() if isinstance(words, bytes) else str(words)


def load_cuda_runtime() -> Any:
    """The module of the CUDA runtime. Raises BackendError where it is not installed."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendError(
            f"a GPU needs cuda-python, which cannot be imported ({error}): pip install 'rankport[cuda]'"
        ) from error
    return runtime


def require_gpu(cuda: Any, device: int = 0) -> None:
    """Raises BackendError, with CUDA's reason, where the driver shows no GPU, or none of that number."""
    error, count = cuda.cudaGetDeviceCount()  # no count with an error
    if count:
        if count <= device:
            raise BackendError(f"GPU {device}: this machine has {count}, numbered from 0")
        return
    _, words = cuda.cudaGetErrorString(error)
    reason = words.decode() if isinstance(words, bytes) else words
    raise BackendError(
        f"this machine has no NVIDIA GPU that its driver shows (CUDA: {reason}): see `rankport doctor`"
    )


def load_cuda_driver() -> Any:
    """The module of the CUDA driver, for the one type that the runtime's lacks."""
    from cuda.bindings import driver

    return driver
