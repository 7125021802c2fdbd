"""Graph pass: where a batch is of one, that one is taken before the head's product, not of its result.

requires: an output that is a Gather of the first of states [1, tokens, width] along axis 0.
ensures:  products with constants, and what is done to each number of them, give [tokens, width]: logits of a whole
          vocabulary are not copied.
"""

import onnx_ir as ir

from rankport.exporters.graphs.passes.fusions.matching import made_by, scalar, take_place

_EACH_NUMBER = frozenset({"Add", "Div", "Mul", "Tanh"})


def take_only_rows_early(model: ir.Model) -> int:
    """Moves every such Gather up. Returns how many nodes now give one axis fewer."""
    return sum(_move_up(output) for output in list(model.graph.outputs))


def _move_up(output: ir.Value) -> int:
    gather = made_by(output, "Gather")
    if gather is None or gather.attributes.get_int("axis", 0) != 0 or not _is_first_of_one(gather):
        return 0
    nodes: list[ir.Node] = []
    states = gather.inputs[0]
    while states is not None and (node := states.producer()) is not None and _goes_by_row(node):
        if len(list(states.consumers())) != 1 or states.is_graph_output():
            break
        nodes.append(node)
        states = node.inputs[0]
    if not nodes:
        return 0
    first = nodes[-1]
    taken = ir.node("Gather", [states, gather.inputs[1]], {"axis": 0})
    graph = first.graph
    assert graph is not None
    graph.insert_before(first, taken)
    taken.outputs[0].type = gather.outputs[0].type
    first.replace_input_with(0, taken.outputs[0])
    for node in nodes:
        node.outputs[0].shape = None
    take_place(nodes[0].outputs[0], output)
    graph.remove(gather, safe=True)
    return len(nodes)


def _is_first_of_one(gather: ir.Node) -> bool:
    states, place = gather.inputs
    batch = None if states is None or states.shape is None or len(states.shape) != 3 else states.shape[0]
    return (
        batch == 1
        and scalar(place) == 0
        and place is not None
        and place.shape is not None
        and not place.shape
    )


def _goes_by_row(node: ir.Node) -> bool:
    """Tells what treats rows alike, by constants that do not know of them."""
    constants = [None if value is None else value.const_value for value in node.inputs[1:]]
    axes = [len(constant.shape) for constant in constants if constant is not None]
    if len(axes) < len(constants):
        return False
    if node.op_type == "MatMul":
        return axes == [2]
    return node.op_type == "MatMulNBits" or (node.op_type in _EACH_NUMBER and max(axes, default=0) <= 1)
