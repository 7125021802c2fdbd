"""Graph pass: RMS normalization, alone or of a sum, becomes one operator of ONNX Runtime.

requires: the form of `divide_by_root`: x / sqrt(mean(x ** 2) + eps), times a weight as wide as x or without one.
ensures:  SimplifiedLayerNormalization, which sums in fp32 whatever its type; where x is a sum of two equal shapes that
          others read too, SkipSimplifiedLayerNormalization, which gives both. Without a weight it is of ones.
"""

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.fusions.matching import ints, made_by, pair, put, scalar, take_place


@dataclass(frozen=True, slots=True)
class RmsNorm:
    """One normalization as it stands in a graph."""

    result: ir.Value
    weight: ir.Value | None  # [width]; None: of ones
    width: int | None  # of the states, where it is known
    epsilon: float
    inner: tuple[ir.Node, ...]  # the nodes it is made of

    @property
    def quotient(self) -> ir.Node:
        """The division by the root."""
        return self.inner[0 if self.weight is None else 1]


def find_norms(graph: ir.Graph) -> list[RmsNorm]:
    """Finds them in the order of the graph."""
    found: list[RmsNorm] = []
    for node in graph:
        plain = _without_weight(node) if node.op_type == "Div" else None
        if plain is None:
            continue
        readers = list(plain.result.consumers())
        weighted = [norm for reader in readers if (norm := _with_weight(reader, plain)) is not None]
        found += weighted
        is_read = len(weighted) < len(readers) or plain.result.is_graph_output()
        if is_read and plain.width is not None:
            found.append(plain)
    return found


def fuse_norms(model: ir.Model) -> int:
    """Rewrites every normalization. Returns how many."""
    norms = find_norms(model.graph)
    for norm in norms:
        _fuse(norm, model.graph)
    passes.RemoveUnusedNodesPass()(model)
    return len(norms)


def _without_weight(quotient: ir.Node) -> RmsNorm | None:
    root = made_by(quotient.inputs[1], "Sqrt")
    total = None if root is None else made_by(root.inputs[0], "Add")
    parts = pair(total, "ReduceMean")
    if root is None or total is None or parts is None:
        return None
    mean, epsilon = parts
    square, number = made_by(mean.inputs[0], "Pow"), scalar(epsilon)
    states = quotient.inputs[0]
    if (
        square is None
        or states is None
        or square.inputs[0] is not states
        or scalar(square.inputs[1]) != 2
        or number is None
        or ints(mean.inputs[1]) != [-1]
        or not mean.attributes.get_int("keepdims", 1)
    ):
        return None
    inner = (quotient, root, total, mean, square)
    return RmsNorm(quotient.outputs[0], None, _width(states), number, inner)


def _width(states: ir.Value) -> int | None:
    """Reads how wide states are off their shape, or off the table that they are rows of."""
    shape, rows = states.shape, made_by(states, "Gather")
    if shape is None and rows is not None and rows.attributes.get_int("axis", 0) == 0:
        table = rows.inputs[0]
        shape = None if table is None else table.shape
    width = None if shape is None else shape[-1]
    return width if isinstance(width, int) else None


def _with_weight(product: ir.Node, norm: RmsNorm) -> RmsNorm | None:
    matched = pair(product, "Div") if product.op_type == "Mul" else None
    weight = None if matched is None or matched[0] is not norm.inner[0] else matched[1]
    if weight is None or weight.const_value is None or len(weight.const_value.shape) != 1:
        return None
    if weight.const_value.size != norm.width and (norm.width is not None or weight.const_value.size == 1):
        return None
    return replace(norm, result=product.outputs[0], weight=weight, inner=(product, *norm.inner))


def _fuse(norm: RmsNorm, graph: ir.Graph) -> None:
    last, attributes = norm.inner[0], {"epsilon": norm.epsilon}
    weight = norm.weight
    states = norm.quotient.inputs[0]  # not those that were found, which may be a norm's too
    assert states is not None
    if weight is None:
        assert norm.width is not None
        weight = _ones(graph, norm.width)
    sum_ = made_by(states, "Add")
    if sum_ is not None and _is_residual(sum_):
        left, right = sum_.inputs
        assert left is not None
        assert right is not None
        fused = ir.node(
            "SkipSimplifiedLayerNormalization",
            [left, right, weight],
            attributes,
            domain="com.microsoft",
            num_outputs=4,
        )
        put(fused, after=sum_)
        fused.outputs[1].name = fused.outputs[2].name = ""
        take_place(fused.outputs[3], sum_.outputs[0])
        take_place(fused.outputs[0], norm.result)
        return
    fused = ir.node(
        "SimplifiedLayerNormalization",
        [states, weight],
        {"axis": -1, "stash_type": 1, **attributes},
    )
    take_place(put(fused, after=last), norm.result)


def _ones(graph: ir.Graph, width: int) -> ir.Value:
    name = f"ones.{width}"
    if name not in graph.initializers:
        tensor = ir.tensor(np.ones(width, np.float32), name=name)
        value = ir.Value(name=name, shape=ir.Shape([width]), type=ir.TensorType(tensor.dtype))
        value.const_value = tensor
        graph.register_initializer(value)
    return graph.initializers[name]


def _is_residual(sum_: ir.Node) -> bool:
    """Tells a sum of two computed states [1, tokens, width] of one shape, not of a constant."""
    shapes = [value.shape for value in sum_.inputs if value is not None and value.producer() is not None]
    if len(shapes) < 2 or any(shape is None or len(shape) != 3 for shape in shapes):
        return False
    (_, tokens, width), (_, others, other_width) = (tuple(shape) for shape in shapes if shape is not None)
    return width == other_width and isinstance(tokens, int) == isinstance(others, int)
