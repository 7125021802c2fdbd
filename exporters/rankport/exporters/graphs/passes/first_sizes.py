"""Graph pass: the size of an axis is read off the first input that has it.

requires: inputs' shapes name their axes; axes of one name are equally long.
ensures:  no input is needed for a size alone that an earlier one gives too: a graph cut out of this one loses the
          inputs of layers that it does not compute.
"""

import onnx_ir as ir


def read_first_sizes(model: ir.Model) -> int:
    """Rewrites every `Shape` of one axis of a later input. Returns how many."""
    first: dict[str, tuple[ir.Value, int]] = {}
    for value in model.graph.inputs:
        for place, size in enumerate(value.shape or ()):
            if isinstance(size, ir.SymbolicDim) and size.value is not None:
                first.setdefault(size.value, (value, place))
    return sum(_rewrite(node, first) for node in model.graph if node.op_type == "Shape")


def _rewrite(node: ir.Node, first: dict[str, tuple[ir.Value, int]]) -> bool:
    value, place = node.inputs[0], node.attributes.get_int("start", 0)
    if value is None or not value.is_graph_input() or value.shape is None:
        return False
    size = value.shape[place]
    if node.attributes.get_int("end", len(value.shape)) != place + 1 or isinstance(size, int):
        return False
    source, axis = first.get(size.value or "", (value, place))
    if source is value:
        return False
    node.replace_input_with(0, source)
    for name, bound in (("start", axis), ("end", axis + 1)):
        node.attributes[name] = ir.AttrInt64(name, bound)
    return True
