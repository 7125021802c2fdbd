"""Graph pass: beside the logits, what most passes read of them: whole rows of a vocabulary need not leave a GPU.

requires: the output `logits` [items_total, vocabulary].
ensures:  the outputs `likeliest` and `likeliest_logits` [items_total, parts, likeliest], the largest of each part
          of a row and their places in it: of equal parts, as a GPU searches many short ones at once, and a long row by
          few threads; `log_sums` [items_total, 1], log of the sum of exp of each row; `asked_logits` [asked], those at
          the places of the new input `asked` [asked] in all rows behind each other. GatherND would do with
          less, but its CUDA kernel copies sizes from the host, which CUDA graphs would replay when they are gone.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

_PARTS, _OF_PART, _LIKELIEST = 128, 8, 64  # at most, at least of each, and in all
OUTPUTS = ("likeliest", "likeliest_logits", "log_sums", "asked_logits")


def tell_of_logits(model: ir.Model) -> None:
    """Adds the input, the outputs and their nodes."""
    graph = model.graph
    logits = next(value for value in graph.outputs if value.name == "logits")
    assert logits.shape is not None
    rows, vocabulary = logits.shape
    assert isinstance(vocabulary, int)
    fitting = (count for count in range(_PARTS, 0, -1) if not vocabulary % count)
    parts = next((count for count in fitting if vocabulary // count >= _OF_PART), 1)
    size = vocabulary // parts
    count = min(size, max(_OF_PART, -(-_LIKELIEST // parts)))
    asked = ir.Value(name="asked", shape=ir.Shape(["asked"]), type=ir.TensorType(ir.DataType.INT64))
    graph.inputs.append(asked)
    most, last = _constant(graph, "likeliest.count", count), _constant(graph, "likeliest.axis", -1)
    shape = _constant(graph, "likeliest.parts", -1, parts, size)
    split = ir.node("Reshape", [logits, shape])
    split.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    best = ir.node("TopK", [split.outputs[0], most], {"axis": -1}, num_outputs=2)
    sums = ir.node("ReduceLogSumExp", [logits, last], {"keepdims": 1})
    flat = ir.node("Reshape", [logits, last])
    places = ir.node("Gather", [flat.outputs[0], asked], {"axis": 0})
    flat.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph.extend([split, best, sums, flat, places])
    _output(graph, "likeliest", best.outputs[1], [rows, parts, count], ir.DataType.INT64)
    _output(graph, "likeliest_logits", best.outputs[0], [rows, parts, count])
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


def _constant(graph: ir.Graph, name: str, *numbers: int) -> ir.Value:
    value = ir.Value(name=name, shape=ir.Shape([len(numbers)]), type=ir.TensorType(ir.DataType.INT64))
    value.const_value = ir.tensor(np.array(numbers, np.int64), name=name)
    graph.initializers[name] = value
    return value
