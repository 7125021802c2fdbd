"""Sizes that a graph computes on the host, and the nodes that would have them copied to a device.

ONNX Runtime gives `Shape` and what is computed of its results alone to the host. Where a node of the device reads such
a number as data it is copied, and then no pass of the graph can be recorded as a CUDA graph.
"""

import onnx_ir as ir

_SIZES = ("Shape", "Size")
_READ_ON_HOST: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Expand": (1,),
    "GroupQueryAttention": (6,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
}
"""Inputs that CUDA's kernels read in host memory."""
_MOVES = ("Cast", "Gather", "Reshape", "Slice", "Squeeze", "Unsqueeze")
_ARITHMETIC = frozenset(
    [
        "Add",
        "And",
        "Concat",
        "Div",
        "Equal",
        "Greater",
        "Less",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Sub",
        "Where",
    ]
)


def copied_to_device(graph: ir.Graph) -> list[str]:
    """Names the nodes that read a size as data, by operator and place."""
    host: set[ir.Value] = set()
    copied = []
    for node in graph:
        if node.op_type in _SIZES or _is_on_host(node, host):
            host.update(node.outputs)
            continue
        places = _READ_ON_HOST.get(node.op_type, ())
        copied += [
            f"{node.op_type} reads {value.name} in place {place}"
            for place, value in enumerate(node.inputs)
            if value in host and place not in places
        ]
    return copied


def _is_on_host(node: ir.Node, host: set[ir.Value]) -> bool:
    if node.op_type in _MOVES:
        return node.inputs[0] in host
    computed = {value for value in node.inputs if value is not None and value.const_value is None}
    return node.op_type in _ARITHMETIC and bool(computed) and computed <= host
