"""Recordings of what one pass enqueues on a CUDA stream, to be replayed: CUDA graphs.

Owns the recording; streams and memory are the caller's.
"""

from collections.abc import Callable
from typing import Any

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import DeviceLost
from rankport.runtime.backends.devices.cuda.calls import CudaStream


class Recording:
    """Pass that can be launched again, over the same addresses. Its memory must live as long as it does."""

    def __init__(self, executable: Any, cuda: CudaStream) -> None:
        self._executable, self._cuda = executable, cuda

    def launch(self) -> None:
        """Enqueues the pass."""
        self._cuda.call("cudaGraphLaunch", self._executable, self._cuda.handle)

    def close(self) -> None:
        """Frees the recording."""
        executable, self._executable = self._executable, None
        if executable is not None:
            self._cuda.call("cudaGraphExecDestroy", executable)


def record(cuda: CudaStream, enqueue: Callable[[], None]) -> Recording:
    """Records what `enqueue` puts on the stream; nothing of it runs.

    Raises:
        BackendError: something in it cannot be recorded. The stream is usable again.
        DeviceLost: the device answers nothing any more.
    """
    # Other threads may allocate meanwhile: only this one's calls are held to the rules of recording.
    mode = cuda.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    cuda.call("cudaStreamBeginCapture", cuda.handle, mode)
    try:
        enqueue()
    except (BackendError, DeviceLost):
        cuda.runtime.cudaStreamEndCapture(cuda.handle)  # its own error is that of what was just raised
        cuda.runtime.cudaGetLastError()
        raise
    graph = cuda.call("cudaStreamEndCapture", cuda.handle)
    try:
        return Recording(cuda.call("cudaGraphInstantiate", graph, 0), cuda)
    finally:
        cuda.call("cudaGraphDestroy", graph)
