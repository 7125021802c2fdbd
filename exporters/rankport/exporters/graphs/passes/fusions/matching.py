"""Questions that graph passes ask of a graph: who made a value, what constant it is, who else reads it."""

import numpy as np
import onnx_ir as ir


def made_by(value: ir.Value | None, operator: str) -> ir.Node | None:
    """Finds the node that makes the value, if it is of this operator."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == operator else None


def pair(node: ir.Node | None, operator: str) -> tuple[ir.Node, ir.Value] | None:
    """Finds, of a node's two inputs, the maker of the one that `operator` makes, and the other input."""
    if node is None:
        return None
    first, second = node.inputs
    for candidate, other in ((first, second), (second, first)):
        maker = made_by(candidate, operator)
        if maker is not None and other is not None:
            return maker, other
    return None


def scalar(value: ir.Value | None) -> float | None:
    """Reads the number a constant of one element holds."""
    tensor = None if value is None else value.const_value
    if tensor is None or tensor.size != 1:
        return None
    return float(tensor.numpy().reshape(()))


def ints(value: ir.Value | None) -> list[int] | None:
    """Reads the numbers of a constant, flat."""
    tensor = None if value is None else value.const_value
    return None if tensor is None else [int(number) for number in np.asarray(tensor.numpy()).flatten()]


def permutation(node: ir.Node) -> list[int]:
    """Reads the permutation of a Transpose."""
    return list(node.attributes["perm"].as_ints())


def put(node: ir.Node, *, after: ir.Node) -> ir.Value:
    """Adds a node behind another; its first output."""
    graph = after.graph
    assert graph is not None
    graph.insert_after(after, node)
    return node.outputs[0]


def take_place(new: ir.Value, old: ir.Value) -> None:
    """Has all that read `old` read `new`, which has its type and, of a graph's output, its name."""
    new.type, new.shape = old.type, old.shape
    producer = old.producer()
    graph = producer.graph if producer is not None else None
    assert graph is not None
    if old.is_graph_output():
        name, old.name = old.name, f"{old.name}.before"
        new.name = name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
