"""Calls of the CUDA runtime, through cuda-python, and what becomes of its errors: the only way to CUDA for backends.

Owns streams and the reading of errors. Memory is `memory`'s, recordings are `recording`'s, and what GPUs
there are `gpus` tells, which never raises.
"""

import threading
from typing import Any

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import DeviceLost


class CudaStream:
    """Stream of one GPU, and the calls that are made for it, by any thread.

    What other threads record meanwhile, on whichever GPU, neither forbids these calls nor is ended by them. A thread
    that drives the streams of several GPUs loads them one after the other, and comes back to none.
    """

    def __init__(self, device: int = 0) -> None:
        """Opens a stream on the GPU of that number. Raises BackendError where there is none, or no cuda-python."""
        self._runtime = load_cuda_runtime()
        self._device = device
        # Those that were told the device, as CUDA has a current one for each.
        self._threads = threading.local()
        self._handle = 0  # until there is one, the default stream answers for the device
        require_gpu(self._runtime, device)
        self._handle = int(self.call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking))

    @property
    def runtime(self) -> Any:
        """Module of the CUDA runtime, for its types and constants."""
        return self._runtime

    @property
    def device(self) -> int:
        """Number of the GPU."""
        return self._device

    @property
    def handle(self) -> int:
        """Handle of the stream, for those that enqueue work on it."""
        return self._handle

    def call(self, name: str, *arguments: Any) -> Any:
        """Calls a function of the CUDA runtime on the stream's GPU; returns its result, if it has one.

        Raises:
            BackendError: it failed, with CUDA's reason; the device goes on.
            DeviceLost: it failed, and the device answers nothing any more.
        """
        if not getattr(self._threads, "told", False):
            self._threads.told = True
            self.call("cudaSetDevice", self._device)
            # ONNX Runtime records in a mode that forbids others allocations and waits, but for threads that say this.
            apart = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
            self.call("cudaThreadExchangeStreamCaptureMode", apart)
        error, *results = getattr(self._runtime, name)(*arguments)
        if not error:
            return results[0] if results else None
        self._runtime.cudaGetLastError()  # else the next call would meet it again
        message = f"CUDA: {name} failed: {_reason(self._runtime, error)}"
        self.check(message)
        raise BackendError(message)

    def check(self, message: str) -> None:
        """Raises DeviceLost, with what somebody who failed on the device tells, if it answers nothing any more."""
        if self._is_lost():
            raise DeviceLost(message)

    def synchronize(self) -> None:
        """Waits for what is enqueued. Raises as `call`."""
        self.call("cudaStreamSynchronize", self._handle)

    def close(self) -> None:
        """Waits for what is enqueued and ends the stream, that of a lost device too."""
        try:
            self.synchronize()
        finally:
            self._handle, handle = 0, self._handle
            self._runtime.cudaStreamDestroy(handle)

    def _is_lost(self) -> bool:
        """Says whether the device answers every call with an error: what it does not get over, it repeats."""
        errors = self._runtime.cudaError_t
        answer = self._runtime.cudaStreamQuery(self._handle)[0]
        # While it is recorded, a stream refuses to be asked: that says nothing of the device.
        recording = "StreamCapture" in getattr(answer, "name", "")
        return not recording and answer not in (errors.cudaSuccess, errors.cudaErrorNotReady)


def load_cuda_runtime() -> Any:
    """Imports the module of the CUDA runtime. Raises BackendError where it is not installed."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendError(
            f"a GPU needs cuda-python, which cannot be imported ({error}): pip install 'rankport[cuda]', "
            "or for --device tensorrt 'rankport[tensorrt]'"
        ) from error
    return runtime


def load_cuda_driver() -> Any:
    """Imports the module of the CUDA driver, for the one type that the runtime's lacks."""
    from cuda.bindings import driver

    return driver


def require_gpu(runtime: Any, device: int = 0) -> None:
    """Raises BackendError, with CUDA's reason, where the driver shows no GPU, or none of that number."""
    error, count = runtime.cudaGetDeviceCount()  # no count with an error
    if count:
        if count <= device:
            raise BackendError(f"GPU {device}: this machine has {count}, numbered from 0")
        return
    raise BackendError(
        f"this machine has no NVIDIA GPU that its driver shows (CUDA: {_reason(runtime, error)}): "
        "see `rankport doctor`"
    )


def _reason(runtime: Any, error: Any) -> str:
    _, words = runtime.cudaGetErrorString(error)
    return words.decode() if isinstance(words, bytes) else str(words)
