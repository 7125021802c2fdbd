"""A checkpoint folder whose weights are an ONNX graph, as `optimum-cli export onnx` writes it: what the graph says.

Owns the reading of model.onnx and its weights by name. What its outputs are to a kind, `onnx_model` knows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from torch import Tensor

from rankport.exporters.checkpoints.forms.stored_tensors import INDEX, WEIGHTS, StoredTensors
from rankport.exporters.graphs.imported import read_graph
from rankport.protos.errors import CheckpointError

GRAPH = "model.onnx"

_DTYPES = {
    ir.DataType.DOUBLE: "F64",
    ir.DataType.FLOAT: "F32",
    ir.DataType.FLOAT16: "F16",
    ir.DataType.BFLOAT16: "BF16",
    ir.DataType.INT64: "I64",
    ir.DataType.INT32: "I32",
    ir.DataType.INT8: "I8",
    ir.DataType.UINT8: "U8",
    ir.DataType.BOOL: "BOOL",
}


@dataclass(frozen=True, slots=True)
class GraphValue:
    """An input or output of the graph."""

    dtype: str  # as ONNX calls it: "INT64"
    shape: tuple[int | None, ...] | None  # None where the graph leaves it open


class OnnxTensors(StoredTensors):
    """The weights of a graph by name: their shapes and types. Their values stay in the graph."""

    def __init__(self, file: Path) -> None:
        """Reads the graph. Raises CheckpointError for what is none."""
        super().__init__(())
        model = read_graph(file)
        self.file = file
        self.inputs = _values(model.graph.inputs)
        self.outputs = _values(model.graph.outputs)
        weights = {name: value.const_value for name, value in model.graph.initializers.items()}
        # Weights of some exporters are nodes.
        constants = {str(node.outputs[0].name): node for node in model.graph if node.op_type == "Constant"}
        for name, node in constants.items():
            attribute = node.attributes.get("value")
            weights[name] = None if attribute is None else attribute.as_tensor()
        external = set()
        for name, tensor in weights.items():
            if tensor is None or tensor.dtype not in _DTYPES:
                continue
            self._shapes[name] = tuple(tensor.shape.numpy())
            self._dtypes[name] = _DTYPES[tensor.dtype]
            if isinstance(tensor, ir.ExternalTensor):
                external.add(str(tensor.location))
        self.files = (file, *(file.parent / name for name in sorted(external)))

    @property
    def parameters(self) -> int:
        """Counts the values of floating types."""
        sizes = (_count(self._shapes[name]) for name in self._shapes if "F" in self._dtypes[name])
        return sum(sizes)

    def read(self, name: str) -> Tensor:
        """Refuses: no weight of a graph is read alone."""
        raise CheckpointError(f"{self.file}: weight {name!r} of a graph is not read on its own")


def onnx_tensors(folder: Path) -> OnnxTensors | None:
    """Reads the graph of a folder that has no other weights; None for a folder that has.

    Raises CheckpointError for a folder whose only graphs have other names, which mostly are parts of a model.
    """
    if (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
        return None
    if (folder / GRAPH).is_file():
        return OnnxTensors(folder / GRAPH)
    other = next((file.name for file in sorted(folder.glob("*.onnx"))), None)
    if other is not None:
        raise CheckpointError(
            f"checkpoint {str(folder)!r} has {other} and no {GRAPH}: if it is the whole model, rename it to {GRAPH}; "
            "decoders in parts are exported from their own checkpoint"
        )
    return None


def unread_graph(folder: Path) -> tuple[str, ...]:
    """Notes a graph beside weights, which is not what is exported."""
    beside = (folder / GRAPH).is_file()
    return (f"not read: {GRAPH}, for the folder has the weights themselves",) if beside else ()


def _values(values: Iterable[ir.Value]) -> dict[str, GraphValue]:
    found: dict[str, GraphValue] = {}
    for value in values:
        shape: tuple[int | None, ...] | None = None
        if value.shape is not None:
            shape = tuple(size if isinstance(size, int) else None for size in value.shape)
        found[str(value.name)] = GraphValue("?" if value.dtype is None else value.dtype.name, shape)
    return found


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
