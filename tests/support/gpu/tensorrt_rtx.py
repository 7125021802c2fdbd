"""TensorRT-RTX without a GPU: what its parser says about a graph, and plans built for a GPU that is not there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

trt: Any = pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install tensorrt-rtx", exc_type=ImportError
)

_NO_GPU = "catchCudaError"
"""Part of a line that follows any error on a machine without a GPU, and says nothing about the graph."""

Range = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # smallest, usual and largest shape


class _Log(trt.ILogger):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        if severity <= trt.ILogger.ERROR and _NO_GPU not in message:
            self.errors.append(message)


class ParsedGraph:
    """An ONNX file as a network. Fails with every node that the parser refuses."""

    def __init__(self, file: Path) -> None:
        # All of these must outlive the network.
        self._log = _Log()
        self._builder = trt.Builder(self._log)
        self.network = self._builder.create_network(0)
        self._parser = trt.OnnxParser(self.network, self._log)
        if not self._parser.parse_from_file(str(file)):
            errors = [self._parser.get_error(i) for i in range(self._parser.num_errors)]
            pytest.fail("\n".join(f"{error.node_operator()}: {error.desc()}" for error in errors))

    def build(self, shapes: Mapping[str, Range]) -> int:
        """Bytes of a plan for SM89 over these input shapes."""
        config = self._builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM89, 0)
        profile = self._builder.create_optimization_profile()
        for name, (least, usual, most) in shapes.items():
            if self._is_shape(name):
                profile.set_shape_input(name, least, usual, most)
            else:
                profile.set_shape(name, least, usual, most)
        config.add_optimization_profile(profile)
        plan = self._builder.build_serialized_network(self.network, config)
        if plan is None:
            pytest.fail("\n".join(self._log.errors))
        return int(plan.nbytes)

    def _is_shape(self, name: str) -> bool:
        inputs = [self.network.get_input(place) for place in range(self.network.num_inputs)]
        return next(bool(tensor.is_shape_tensor) for tensor in inputs if tensor.name == name)
