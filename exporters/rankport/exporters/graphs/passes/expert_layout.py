"""Graph pass: lays the weights of experts out as ONNX Runtime's operators of chosen experts take them.

requires: nodes `EXPERTS` with the inputs of com.microsoft's MoE, whose weights and biases are initializers as
          transformers stores them, and the attributes `concatenated` ([gate; up], else they alternate) and
          `transposed` ([experts, in, out], else [experts, out, in]) beside the operator's own.
ensures:  nodes MoE; weights [experts, out, in] in which gate and up alternate, each made when it is read: a copy of all
          experts at once would double what an export needs.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import Tensor

EXPERTS = "rankport::Experts"
"""Domain and operator that stand for it while a graph is traced."""
_UP, _UP_BIAS, _DOWN = 2, 3, 4  # inputs
_A = TypeVar("_A", NDArray[Any], Tensor)


def store_experts(model: ir.Model) -> int:
    """Rewrites every such node. Returns how many."""
    domain, operator = EXPERTS.split("::")
    nodes = [node for node in model.graph if (node.domain, node.op_type) == (domain, operator)]
    for node in nodes:
        concatenated, transposed = (
            bool(node.attributes.pop(name).as_int()) for name in ("concatenated", "transposed")
        )
        if transposed:
            for place in (_UP, _DOWN):
                _lay_out(node, place, turned)
        if concatenated:
            for place in (_UP, _UP_BIAS):
                _lay_out(node, place, alternating)
        node.domain, node.op_type, node.version = "com.microsoft", "MoE", None
    if nodes:
        model.opset_imports.pop(domain, None)
        model.opset_imports["com.microsoft"] = 1
    return len(nodes)


def turned(matrices: _A) -> _A:
    """Maps [experts, in, out] -> [experts, out, in]."""
    return matrices.swapaxes(1, 2)


def alternating(joined: _A) -> _A:
    """Maps [experts, 2 width, …], all gates before all ups, to rows of the two in turn."""
    experts, rows, *rest = joined.shape
    return joined.reshape(experts, 2, rows // 2, *rest).swapaxes(1, 2).reshape(*joined.shape)


def _lay_out(node: ir.Node, place: int, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Gives the node an initializer of its own, as another node may read the same weights in the old layout.

    Nodes of one layer, which a model may go through more than once, share it.
    """
    value, graph = node.inputs[place], node.graph
    if value is None:
        return
    assert isinstance(graph, ir.Graph)
    name = f"{value.name}.{change.__name__}"
    if name not in graph.initializers:
        graph.initializers[name] = _changed(value, name, change)
    node.replace_input_with(place, graph.initializers[name])
    if not value.uses():
        assert value.name is not None
        graph.initializers.pop(value.name)


def _changed(value: ir.Value, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> ir.Value:
    """Makes an initializer in another layout, computed when it is read."""
    tensor = value.const_value
    assert tensor is not None
    shape = ir.Shape(change(np.broadcast_to(np.int8(0), tensor.shape.numpy())).shape)
    laid = ir.LazyTensor(
        lambda: ir.tensor(np.ascontiguousarray(change(tensor.numpy()))),
        dtype=tensor.dtype,
        shape=shape,
        name=name,
    )
    return ir.Value(name=name, type=value.type, shape=shape, const_value=laid)
