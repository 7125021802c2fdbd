"""What one pass enqueues on a CUDA stream, recorded once and replayed: a CUDA graph.

Owns the recording; streams and memory are the caller's. cuda-bindings is imported when something is recorded.
"""

from collections.abc import Callable
from typing import Any

from rankport.protos.errors import BackendError


class Recording:
    """A pass that can be launched again, over the same addresses. Its memory must live as long as it does."""

    def __init__(self, executable: Any, stream: int) -> None:
        self._executable, self._stream = executable, stream

    def launch(self) -> None:
        """Enqueues the pass."""
        from cuda.bindings import runtime

        cuda(runtime.cudaGraphLaunch, self._executable, self._stream)

    def close(self) -> None:
        """Frees the recording."""
        from cuda.bindings import runtime

        executable, self._executable = self._executable, None
        if executable is not None:
            cuda(runtime.cudaGraphExecDestroy, executable)


def record(stream: int, enqueue: Callable[[], None]) -> Recording:
    """Records what `enqueue` puts on `stream`; nothing of it runs.

    Raises:
        BackendError: something in it cannot be recorded. The stream is usable again.
    """
    from cuda.bindings import runtime

    # Other threads may allocate meanwhile: only this one's calls are held to the rules of recording.
    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    cuda(runtime.cudaStreamBeginCapture, stream, mode)
    try:
        enqueue()
    except BackendError:
        runtime.cudaStreamEndCapture(stream)  # its own error is that of what was just raised
        runtime.cudaGetLastError()
        raise
    graph = cuda(runtime.cudaStreamEndCapture, stream)
    try:
        return Recording(cuda(runtime.cudaGraphInstantiate, graph, 0), stream)
    finally:
        cuda(runtime.cudaGraphDestroy, graph)


def cuda(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """What a function of the CUDA runtime returns. Raises `BackendError` with its name and CUDA's reason."""
    from cuda.bindings import runtime

    error, *results = function(*arguments)
    if error:
        runtime.cudaGetLastError()  # else the next call would meet it again
        reason = runtime.cudaGetErrorString(error)[1].decode()
        raise BackendError(f"{function.__name__} failed: {reason} ({error.name})")
    return results[0] if results else None
