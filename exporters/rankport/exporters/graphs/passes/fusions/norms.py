"""Graph pass: RMS normalization, alone or of a sum, becomes one operator of ONNX Runtime.

requires: the form of `divide_by_root`: x / sqrt(mean(x ** 2) + eps) * weight.
ensures:  SimplifiedLayerNormalization, which sums in fp32 whatever its type; where x is a sum of two equal shapes that
          others read too, SkipSimplifiedLayerNormalization, which gives both.
"""

from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.fusions.matching import ints, made_by, pair, put, scalar, take_place


@dataclass(frozen=True, slots=True)
class RmsNorm:
    """One normalization as it stands in a graph."""

    result: ir.Value
    states: ir.Value
    weight: ir.Value  # [width]
    epsilon: float
    inner: tuple[ir.Node, ...]  # the nodes it is made of


def find_norms(graph: ir.Graph) -> list[RmsNorm]:
    """Finds them in the order of the graph."""
    matches = (_norm(node) for node in graph if node.op_type == "Mul")
    return [norm for norm in matches if norm is not None]


def fuse_norms(model: ir.Model) -> int:
    """Rewrites every normalization. Returns how many."""
    norms = find_norms(model.graph)
    for norm in norms:
        _fuse(norm)
    passes.RemoveUnusedNodesPass()(model)
    return len(norms)


def _norm(product: ir.Node) -> RmsNorm | None:
    matched = pair(product, "Div")
    if matched is None:
        return None
    quotient, weight = matched
    root = made_by(quotient.inputs[1], "Sqrt")
    total = None if root is None else made_by(root.inputs[0], "Add")
    parts = pair(total, "ReduceMean")
    if root is None or total is None or parts is None:
        return None
    mean, epsilon = parts
    square = made_by(mean.inputs[0], "Pow")
    states = quotient.inputs[0]
    if (
        square is None
        or states is None
        or square.inputs[0] is not states
        or scalar(square.inputs[1]) != 2
        or scalar(epsilon) is None
        or ints(mean.inputs[1]) != [-1]
        or weight.const_value is None
        or len(weight.const_value.shape) != 1
    ):
        return None
    number = scalar(epsilon)
    assert number is not None
    return RmsNorm(product.outputs[0], states, weight, number, (product, quotient, root, total, mean, square))


def _fuse(norm: RmsNorm) -> None:
    product, attributes = norm.inner[0], {"epsilon": norm.epsilon}
    sum_ = made_by(norm.states, "Add")
    if sum_ is not None and _is_residual(sum_):
        left, right = sum_.inputs
        assert left is not None
        assert right is not None
        fused = ir.node(
            "SkipSimplifiedLayerNormalization",
            [left, right, norm.weight],
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
        [norm.states, norm.weight],
        {"axis": -1, "stash_type": 1, **attributes},
    )
    take_place(put(fused, after=product), norm.result)


def _is_residual(sum_: ir.Node) -> bool:
    """Tells a sum of two computed states [1, tokens, width], not of a constant."""
    return all(value is not None and value.const_value is None and value.producer() for value in sum_.inputs)
