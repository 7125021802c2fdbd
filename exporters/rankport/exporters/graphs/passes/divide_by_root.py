"""Graph pass: x * (1 / sqrt(v)) becomes x / sqrt(v), and so does x * v ** -0.5.

requires: nothing.
ensures:  one rounding less; and the form of RMS normalization that runtimes fuse into one kernel, which they do not for
          the `rsqrt`, or the power (Gemma 4), that models are written with.
"""

import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.fusions.matching import put, scalar, take_place


def divide_by_root(model: ir.Model) -> int:
    """Rewrites every such product. Returns how many."""
    rewritten = sum(_rewrite(node) for node in list(model.graph) if node.op_type == "Mul")
    passes.RemoveUnusedNodesPass()(model)
    return rewritten


def _rewrite(product: ir.Node) -> bool:
    for place in (0, 1):
        factor, root = product.inputs[1 - place], _root_of_inverse(product.inputs[place])
        if root is None:
            continue
        take_place(put(ir.node("Div", [factor, root]), after=product), product.outputs[0])
        return True
    return False


def _root_of_inverse(value: ir.Value | None) -> ir.Value | None:
    """sqrt(v) if the value is its reciprocal, or v ** -0.5."""
    inverse = None if value is None else value.producer()
    if inverse is None or value is None:
        return None
    if inverse.op_type == "Pow" and scalar(inverse.inputs[1]) == -0.5:
        root = put(ir.node("Sqrt", [inverse.inputs[0]]), after=inverse)
        root.type, root.shape = value.type, value.shape
        return root
    source = inverse.inputs[0] if inverse.op_type == "Reciprocal" else None
    producer = None if source is None else source.producer()
    return source if producer is not None and producer.op_type == "Sqrt" else None
