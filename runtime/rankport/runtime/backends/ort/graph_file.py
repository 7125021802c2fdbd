"""A graph file on its own, run by ONNX Runtime on the CPU: what an export is proven against where it was given a graph.

Knows no bundle, and serves nothing.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rankport.protos.errors import BackendError


class GraphFile:
    """A loaded graph. Any thread may run it."""

    def __init__(self, file: Path) -> None:
        """Raises BackendError for a file that ONNX Runtime does not load."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what fails is raised; a line beside it would be none of a log
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exception classes share no other base
            raise BackendError(f"ONNX Runtime cannot load {file}: {error}") from error
        self._file = file

    @property
    def version(self) -> str:
        """Version of ONNX Runtime."""
        return str(onnxruntime.__version__)

    def run(self, output: str, inputs: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """Computes one output. Raises BackendError for inputs that the graph does not take."""
        try:
            values: NDArray[np.float32] = self._session.run([output], dict(inputs))[0]
        except Exception as error:
            raise BackendError(f"ONNX Runtime failed on {self._file}: {error}") from error
        return values
