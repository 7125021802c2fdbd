"""Graph pass: beside the logits, what most passes read of them: whole rows of a vocabulary need not leave a GPU.

requires: the output `logits` [items_total, vocabulary].
ensures:  the outputs `likeliest` and `likeliest_logits` [items_total, 64], or as many as there are: the largest logits
          of each row, of equal ones the first, and their places; `log_sums` [items_total, 1], log of the sum of exp of
          each row; `asked_logits` [asked], those at the places of the new input `asked` [asked] in all rows behind each
          other. Each is by an operator whose CUDA kernel copies nothing from the host: CUDA graphs would replay that.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

LIKELIEST = 64
OUTPUTS = ("likeliest", "likeliest_logits", "log_sums", "asked_logits")


def tell_of_logits(model: ir.Model) -> None:
    """Adds the input, the outputs and their nodes."""
    graph = model.graph
    logits = next(value for value in graph.outputs if value.name == "logits")
    assert logits.shape is not None
    rows, vocabulary = logits.shape
    assert isinstance(vocabulary, int)
    count = min(LIKELIEST, vocabulary)
    asked = ir.Value(name="asked", shape=ir.Shape(["asked"]), type=ir.TensorType(ir.DataType.INT64))
    graph.inputs.append(asked)
    most, last = _constant(graph, "likeliest.count", count), _constant(graph, "likeliest.axis", -1)
    best = ir.node("TopK", [logits, most], {"axis": -1}, num_outputs=2)
    sums = ir.node("ReduceLogSumExp", [logits, last], {"keepdims": 1})
    flat = ir.node("Reshape", [logits, last])
    places = ir.node("Gather", [flat.outputs[0], asked], {"axis": 0})
    flat.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph.extend([best, sums, flat, places])
    _output(graph, "likeliest", best.outputs[1], [rows, count], ir.DataType.INT64)
    _output(graph, "likeliest_logits", best.outputs[0], [rows, count])
    _output(graph, "log_sums", sums.outputs[0], [rows, 1])
    _output(graph, "asked_logits", places.outputs[0], ["asked"])


def _output(
    graph: ir.Graph,
    name: str,
    value: ir.Value,
    shape: Sequence[int | str | ir.SymbolicDim],
    dtype: ir.DataType = ir.DataType.FLOAT,
) -> None:
    value.name, value.shape, value.type = name, ir.Shape(shape), ir.TensorType(dtype)
    graph.outputs.append(value)


def _constant(graph: ir.Graph, name: str, number: int) -> ir.Value:
    value = ir.Value(name=name, shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64))
    value.const_value = ir.tensor(np.array([number], np.int64), name=name)
    graph.initializers[name] = value
    return value
