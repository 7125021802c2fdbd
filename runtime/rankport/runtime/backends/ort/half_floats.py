"""Cast of float32 to float16 by ONNX Runtime on the CPU: numpy, which has no instruction for it, takes ten times that.

Embeddings come in float32, and graphs in half precision take float16: by numpy most of what the host does for a pass.
"""

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rankport.runtime.backends.layouts.layout import Array, cast_by_numpy

_LEAST_SIZE = 4096  # numbers below which a run costs more than it saves

MODEL = (
    b'\x08\x08:@\n\x17\n\x01x\x12\x01y"\x04Cast*\t\n\x02to\x18\n\xa0\x01\x02\x12\x01g'
    b"Z\x10\n\x01x\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01n"
    b"b\x10\n\x01y\x12\x0b\n\t\x08\n\x12\x05\n\x03\x12\x01nB\x04\n\x00\x10\r"
)
"""ONNX model of one Cast, x [n] in float32 to y [n] in float16; nobody needs the package onnx for it."""


class HalfFloatCast:
    """Session of the model, with no thread of its own. Implements `Cast`; any thread may call it."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])

    def __call__(self, source: Array, target: Array) -> None:
        """Rounds to the nearest, ties to even, as numpy does, which casts few numbers, and other types."""
        types = source.dtype, target.dtype
        if (
            types != (np.dtype(np.float32), np.dtype(np.float16))
            or source.size < _LEAST_SIZE
            or not target.flags.c_contiguous
        ):
            cast_by_numpy(source, target)
            return
        given: NDArray[np.float32] = np.ascontiguousarray(source, np.float32).reshape(-1)
        binding = self._session.io_binding()
        binding.bind_cpu_input("x", given)
        binding.bind_output("y", "cpu", 0, np.float16, given.shape, target.ctypes.data)
        self._session.run_with_iobinding(binding)
