"""Edits of ONNX graphs that faults are made of: other constants, other inputs, nodes put in between."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mutations.fault import Edit

Array = NDArray[np.generic]


def all_of(*edits: Edit) -> Edit:
    """Makes one edit of several."""

    def edit(model: ir.Model) -> None:
        for part in edits:
            part(model)

    return edit


def constant(match: str | Callable[[Array], bool], change: Callable[[Array], object]) -> Edit:
    """Changes the initializers whose name ends in `match`, or whose value matches. At least one must be there."""

    def wanted(value: ir.Value) -> bool:
        assert value.name is not None
        return value.name.endswith(match) if isinstance(match, str) else match(array_of(value))

    def edit(model: ir.Model) -> None:
        values = [value for value in model.graph.initializers.values() if wanted(value)]
        assert values, f"no initializer matches {match!r}"
        for value in values:
            old = array_of(value)
            value.const_value = ir.tensor(np.asarray(change(old)).astype(old.dtype), name=value.name)

    return edit


def scalar(number: float) -> Callable[[Array], bool]:
    """Matches a constant of one number, as fp32 holds it."""
    return lambda array: (
        array.dtype == np.float32 and array.ndim == 0 and bool(np.isclose(array, number, 1e-5, 0))
    )


def array_of(value: ir.Value) -> Array:
    assert value.const_value is not None
    array: Array = value.const_value.numpy()
    return array


@dataclass(frozen=True, slots=True)
class Op:
    """An operator over what was there before it.

    An operand is the name of a value, numbers, another `Op`, `THERE`: the value that the nodes are put behind, or
    `LastOf` an operator.
    """

    operator: str
    operands: tuple[object, ...]
    attributes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LastOf:
    """The output of the last node of an operator."""

    operator: str


THERE = object()


def op(operator: str, *operands: object, **attributes: int) -> Op:
    """Spells an `Op`."""
    return Op(operator, operands, attributes)


def behind(name: str, *steps: Op) -> Edit:
    """Puts nodes between a value and all its users, or before an output of the graph."""
    return lambda model: _insert(model.graph, value_named(model.graph, name), steps)


def behind_nodes(operator: str, *steps: Op, which: slice = slice(None)) -> Edit:
    """Puts nodes behind the nodes of an operator, in the order of the graph."""
    return at_nodes(operator, lambda graph, node: _insert(graph, node.outputs[0], steps), which)


def before_nodes(operator: str, place: int, *steps: Op, which: slice = slice(None)) -> Edit:
    """Puts nodes before one of the inputs of the nodes of an operator."""

    def change(graph: ir.Graph, node: ir.Node) -> None:
        value = node.inputs[place]
        assert value is not None
        nodes, last = _chain(graph, value, steps)
        graph.insert_before(node, nodes)
        node.replace_input_with(place, last)

    return at_nodes(operator, change, which)


def without_nodes(operator: str, which: slice = slice(None), place: int = 0) -> Edit:
    """Takes nodes out: their users get one of their inputs."""

    def change(graph: ir.Graph, node: ir.Node) -> None:
        value = node.inputs[place]
        assert value is not None
        for use in list(node.outputs[0].uses()):
            use.node.replace_input_with(use.idx, value)

    return at_nodes(operator, change, which)


def at_nodes(operator: str, change: Callable[[ir.Graph, ir.Node], None], which: slice = slice(None)) -> Edit:
    """Changes the nodes of an operator, in the order of the graph."""

    def edit(model: ir.Model) -> None:
        nodes = [node for node in model.graph if node.op_type == operator][which]
        assert nodes, f"no node {operator}"
        for node in nodes:
            change(model.graph, node)

    return edit


def with_attribute(name: str, value: str | float) -> Callable[[ir.Graph, ir.Node], None]:
    """Sets an attribute of a node."""

    def change(graph: ir.Graph, node: ir.Node) -> None:
        node.attributes[name] = (
            ir.AttrString(name, value) if isinstance(value, str) else ir.AttrFloat32(name, value)
        )

    return change


def square(width: int) -> Callable[[Array], bool]:
    """Matches square matrices."""
    return lambda array: array.shape == (width, width)


def _insert(graph: ir.Graph, value: ir.Value, steps: Sequence[Op]) -> None:
    uses = list(value.uses())
    nodes, last = _chain(graph, value, steps)
    last.shape = value.shape
    for use in uses:
        use.node.replace_input_with(use.idx, last)
    if value in graph.outputs:
        last.name, value.name = value.name, f"{value.name}.before"
        graph.outputs[list(graph.outputs).index(value)] = last
        graph.extend(nodes)
    else:
        users = {use.node for use in uses}
        graph.insert_before(next(node for node in graph if node in users), nodes)


def _chain(graph: ir.Graph, value: ir.Value, steps: Sequence[Op]) -> tuple[list[ir.Node], ir.Value]:
    """Makes the nodes of steps, each over the one before, and gives the last one's value."""
    nodes: list[ir.Node] = []
    kind = value.type
    for step in steps:
        value = _node_of(graph, value, step, nodes)
        value.type = ir.TensorType(ir.DataType(step.attributes["to"])) if step.operator == "Cast" else kind
        kind = value.type
    return nodes, value


def _node_of(graph: ir.Graph, there: ir.Value, step: Op, nodes: list[ir.Node]) -> ir.Value:
    inputs = []
    for operand in step.operands:
        if operand is THERE:
            inputs.append(there)
        elif isinstance(operand, Op):
            inputs.append(_node_of(graph, there, operand, nodes))
        elif isinstance(operand, LastOf):
            inputs.append([node for node in graph if node.op_type == operand.operator][-1].outputs[0])
        else:
            inputs.append(_operand(graph, operand))
    node = ir.node(step.operator, inputs, step.attributes)
    nodes.append(node)
    return node.outputs[0]


def swap_uses(first: str, second: str) -> Edit:
    """Gives the users of each of two values the other."""

    def edit(model: ir.Model) -> None:
        a, b = value_named(model.graph, first), value_named(model.graph, second)
        of_a, of_b = list(a.uses()), list(b.uses())
        for uses, other in ((of_a, b), (of_b, a)):
            for use in uses:
                use.node.replace_input_with(use.idx, other)

    return edit


def exchange(*shape: int) -> Edit:
    """Exchanges the first two initializers of a shape: each is read where the other lies."""

    def edit(model: ir.Model) -> None:
        values = [value for value in model.graph.initializers.values() if value.const_value is not None]
        first, second, *_ = (value for value in values if tuple(array_of(value).shape) == shape)
        first.const_value, second.const_value = second.const_value, first.const_value

    return edit


def use_instead(name: str, other: str) -> Edit:
    """Gives the users of a value another one."""

    def edit(model: ir.Model) -> None:
        value, instead = value_named(model.graph, name), value_named(model.graph, other)
        for use in list(value.uses()):
            use.node.replace_input_with(use.idx, instead)

    return edit


def value_named(graph: ir.Graph, name: str) -> ir.Value:
    values = [
        *graph.inputs,
        *graph.initializers.values(),
        *(value for node in graph for value in node.outputs),
    ]
    return next(value for value in values if value.name == name)


def _operand(graph: ir.Graph, operand: object) -> ir.Value:
    if isinstance(operand, str):
        return value_named(graph, operand)
    value = ir.Value(name=f"planted.{len(graph.initializers)}")
    value.const_value = ir.tensor(np.asarray(operand), name=value.name)
    value.shape, value.type = value.const_value.shape, ir.TensorType(value.const_value.dtype)
    graph.register_initializer(value)
    return value
