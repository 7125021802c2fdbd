"""Graph pass: vectors that are divided by their length become one operator of ONNX Runtime.

requires: the form of `divide_by_root`: x / sqrt(sum(x * x) + eps), whose sum is over a last axis of known size.
ensures:  SimplifiedLayerNormalization, which divides by the root of a mean: its weight, one number, and its epsilon
          make up for that.
"""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.fusions.matching import ints, made_by, pair, put, scalar, take_place


def fuse_units(model: ir.Model) -> int:
    """Rewrites every such quotient. Returns how many."""
    fused = sum(_fuse(node, model.graph) for node in list(model.graph) if node.op_type == "Div")
    passes.RemoveUnusedNodesPass()(model)
    return fused


def _fuse(quotient: ir.Node, graph: ir.Graph) -> bool:
    states, root = quotient.inputs[0], made_by(quotient.inputs[1], "Sqrt")
    total = None if root is None else made_by(root.inputs[0], "Add")
    parts = pair(total, "ReduceSum")
    if states is None or states.shape is None or parts is None:
        return False
    sum_, epsilon = parts
    square, width, number = made_by(sum_.inputs[0], "Mul"), states.shape[-1], scalar(epsilon)
    if (
        square is None
        or any(factor is not states for factor in square.inputs)
        or ints(sum_.inputs[1]) != [-1]
        or not sum_.attributes.get_int("keepdims", 1)
        or not isinstance(width, int)
        or number is None
    ):
        return False
    name = f"units.{width}"
    if name not in graph.initializers:
        tensor = ir.tensor(np.full(width, width**-0.5, np.float32), name=name)
        weight = ir.Value(name=name, shape=ir.Shape([width]), type=ir.TensorType(tensor.dtype))
        weight.const_value = tensor
        graph.register_initializer(weight)
    attributes = {"axis": -1, "stash_type": 1, "epsilon": number / width}
    fused = ir.node("SimplifiedLayerNormalization", [states, graph.initializers[name]], attributes)
    take_place(put(fused, after=quotient), quotient.outputs[0])
    return True
