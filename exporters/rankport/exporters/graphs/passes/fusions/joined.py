"""Graph pass: low-bit products of one input become one product, whose result is split.

requires: nothing.
ensures:  queries, keys and values, and the two matrices in front of an activation, are read and multiplied at once.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.fusions.matching import put, take_place

_ALIKE = ("K", "bits", "block_size", "accuracy_level")


def join_low_bit_products(model: ir.Model) -> int:
    """Joins every group of such products. Returns how many there were in groups."""
    groups: dict[tuple[object, ...], list[ir.Node]] = {}
    for node in model.graph:
        if node.op_type == "MatMulNBits" and _is_plain(node):
            numbers = tuple(node.attributes.get_int(name, 0) for name in _ALIKE)
            groups.setdefault((node.inputs[0], len(node.inputs), *numbers), []).append(node)
    joined = [nodes for nodes in groups.values() if len(nodes) > 1]
    for nodes in joined:
        _join(model.graph, nodes)
    passes.RemoveUnusedNodesPass()(model)
    return sum(len(nodes) for nodes in joined)


def _is_plain(node: ir.Node) -> bool:
    """Tells constant codes, scales and zero points, which no other product reads."""
    weights = node.inputs[1:]
    return all(
        value is not None and value.const_value is not None and len(list(value.consumers())) == 1
        for value in weights[:2]
    ) and all(value is not None and value.const_value is not None for value in weights)


def _join(graph: ir.Graph, nodes: Sequence[ir.Node]) -> None:
    first = nodes[0]
    sizes = [node.attributes.get_int("N", 0) for node in nodes]
    inputs = [first.inputs[0], *(_stacked(graph, nodes, place) for place in range(1, len(first.inputs)))]
    attributes = {name: first.attributes.get_int(name, 0) for name in _ALIKE} | {"N": sum(sizes)}
    product = ir.node("MatMulNBits", inputs, attributes, domain="com.microsoft")
    result = put(product, after=first)
    result.name, result.type = f"{first.outputs[0].name}.joined", first.outputs[0].type
    lengths = ir.Value(name=f"{result.name}.sizes", type=ir.TensorType(ir.DataType.INT64))
    lengths.const_value = ir.tensor(np.array(sizes, np.int64), name=lengths.name)
    lengths.shape = ir.Shape([len(sizes)])
    graph.register_initializer(lengths)
    parts = ir.node("Split", [result, lengths], {"axis": -1}, num_outputs=len(nodes))
    put(parts, after=product)
    for node, part in zip(nodes, parts.outputs, strict=True):
        take_place(part, node.outputs[0])


def _stacked(graph: ir.Graph, nodes: Sequence[ir.Node], place: int) -> ir.Value:
    """Puts a constant input of all products behind each other, row by row."""
    values = [node.inputs[place] for node in nodes]
    tensors = [value.const_value for value in values if value is not None]
    array = np.concatenate([tensor.numpy() for tensor in tensors if tensor is not None])
    first = values[0]
    assert first is not None
    stacked = ir.Value(name=f"{first.name}.joined", shape=ir.Shape(array.shape), type=first.type)
    stacked.const_value = ir.tensor(array, name=stacked.name)
    graph.register_initializer(stacked)
    return stacked
