"""Memory of an NVIDIA GPU, in the order of one stream. Implements `DeviceMemory`.

Calls of CUDA and their errors are `calls`', recordings of passes are `recording`'s.
"""

import ctypes
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.devices.cuda.calls import CudaStream, load_cuda_driver
from rankport.runtime.backends.devices.memory import Buffer, Side, Transfers


class CudaMemory:
    """Memory of one GPU, ordered by its stream: what is freed may be used again before the stream is done with it."""

    def __init__(self, device: int = 0) -> None:
        """Opens the memory of the GPU of that number. Raises as `CudaStream`."""
        self._cuda = CudaStream(device)
        self._transfers = Transfers()
        self._dropped: deque[int] = deque()
        self._keep_freed_memory()

    @property
    def cuda(self) -> CudaStream:
        """Stream that orders the memory, and the way to call CUDA for it."""
        return self._cuda

    @property
    def device(self) -> int:
        """Number of the GPU."""
        return self._cuda.device

    @property
    def stream(self) -> int:
        """See `DeviceMemory.stream`."""
        return self._cuda.handle

    @property
    def transfers(self) -> Transfers:
        """See `DeviceMemory.transfers`."""
        return self._transfers

    def allocate(self, nbytes: int) -> Buffer:
        """See `DeviceMemory.allocate`. Gives back first what was dropped by then."""
        self._free_dropped()
        try:
            pointer = int(self._cuda.call("cudaMallocAsync", max(nbytes, 1), self._cuda.handle))
        except BackendError as error:
            error.wants_memory = True
            raise
        return Buffer(pointer, nbytes, self._drop)

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
        pointer = int(
            self._cuda.call("cudaHostAlloc", max(nbytes, 1), self._cuda.runtime.cudaHostAllocDefault)
        )
        memory = (ctypes.c_uint8 * max(nbytes, 1)).from_address(pointer)
        weakref.finalize(memory, self._cuda.runtime.cudaFreeHost, pointer).atexit = False
        return np.ctypeslib.as_array(memory)[:nbytes]

    def upload(self, host: NDArray[np.uint8], pointer: int) -> None:
        """See `DeviceMemory.upload`."""
        self._transfers.to_device += host.nbytes
        kind = self._cuda.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._cuda.call("cudaMemcpyAsync", pointer, host.ctypes.data, host.nbytes, kind, self._cuda.handle)

    def download(self, pointer: int, host: NDArray[np.uint8]) -> None:
        """See `DeviceMemory.download`."""
        self._transfers.to_host += host.nbytes
        kind = self._cuda.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._cuda.call("cudaMemcpyAsync", host.ctypes.data, pointer, host.nbytes, kind, self._cuda.handle)

    def clear(self, pointer: int, nbytes: int) -> None:
        """See `DeviceMemory.clear`."""
        self._cuda.call("cudaMemsetAsync", pointer, 0, nbytes, self._cuda.handle)

    def copy(self, source: Side, target: Side, *, width: int, height: int, depth: int) -> None:
        """See `DeviceMemory.copy`."""
        self._transfers.on_device += width * height * depth
        cuda = self._cuda.runtime
        job = cuda.cudaMemcpy3DParms()
        job.srcPtr = cuda.make_cudaPitchedPtr(source.pointer, source.pitch, source.pitch, source.rows)
        job.dstPtr = cuda.make_cudaPitchedPtr(target.pointer, target.pitch, target.pitch, target.rows)
        job.extent = cuda.make_cudaExtent(width, height, depth)
        job.kind = cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._cuda.call("cudaMemcpy3DAsync", job, self._cuda.handle)

    def mark(self) -> Callable[[], None]:
        """See `DeviceMemory.mark`."""
        flags = self._cuda.runtime.cudaEventDisableTiming | self._cuda.runtime.cudaEventBlockingSync
        mark = _Mark(self._cuda, self._cuda.call("cudaEventCreateWithFlags", flags))
        self._cuda.call("cudaEventRecord", mark.event, self._cuda.handle)
        return mark

    def close(self) -> None:
        """See `DeviceMemory.close`."""
        self._free_dropped()
        self._cuda.close()

    def _drop(self, pointer: int) -> None:
        """Leaves the freeing to the thread that drives the stream: another's would be a part of what it records."""
        self._dropped.append(pointer)
        if not self._cuda.handle:  # closed
            self._free_dropped()

    def _free_dropped(self) -> None:
        while self._dropped:
            self._cuda.runtime.cudaFreeAsync(self._dropped.popleft(), self._cuda.handle)

    def _keep_freed_memory(self) -> None:
        """Lets the pool give nothing back to the driver at each wait, which would take milliseconds again."""
        pool = self._cuda.call("cudaDeviceGetDefaultMemPool", self._cuda.device)
        attribute = self._cuda.runtime.cudaMemPoolAttr.cudaMemPoolAttrReleaseThreshold
        self._cuda.call("cudaMemPoolSetAttribute", pool, attribute, load_cuda_driver().cuuint64_t(2**63 - 1))


class _Mark:
    """Waits for an event, which is destroyed with it: nobody waits for the last ones before a memory is closed."""

    __slots__ = ("_cuda", "event")

    def __init__(self, cuda: CudaStream, event: Any) -> None:
        self._cuda, self.event = cuda, event

    def __call__(self) -> None:
        self._cuda.call("cudaEventSynchronize", self.event)

    def __del__(self) -> None:
        self._cuda.runtime.cudaEventDestroy(self.event)
