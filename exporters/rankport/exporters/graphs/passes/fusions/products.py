"""Graph pass: what stands around a matrix product and is free inside it goes into ONNX Runtime's FusedMatMul.

requires: nothing.
ensures:  a right factor whose last two axes are exchanged is read as it lies; a product times one number is scaled
          where it is summed.
"""

import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.fusions.matching import (
    made_by,
    pair,
    permutation,
    put,
    scalar,
    take_place,
)


def fuse_products(model: ir.Model) -> int:
    """Rewrites every such product. Returns how many."""
    fused = sum(_fuse(node) for node in list(model.graph) if node.op_type == "MatMul")
    passes.RemoveUnusedNodesPass()(model)
    return fused


def _fuse(product: ir.Node) -> bool:
    left, right = product.inputs
    exchange = made_by(right, "Transpose")
    transposed = exchange is not None and _swaps_last_two(exchange)
    last, factor = _scaled(product)
    if not transposed and last is product:
        return False
    if transposed:
        assert exchange is not None
        right = exchange.inputs[0]
    attributes = {"transA": 0, "transB": int(transposed), "alpha": factor}
    fused = ir.node("FusedMatMul", [left, right], attributes, domain="com.microsoft")
    take_place(put(fused, after=product), last.outputs[0])
    return True


def _scaled(product: ir.Node) -> tuple[ir.Node, float]:
    """Finds the multiplication by a number that alone reads the product, and the number; else the product and 1."""
    result = product.outputs[0]
    readers = list(result.consumers())
    if len(readers) != 1 or result.is_graph_output() or readers[0].op_type != "Mul":
        return product, 1.0
    matched = pair(readers[0], "MatMul")
    factor = None if matched is None else scalar(matched[1])
    return (product, 1.0) if factor is None else (readers[0], factor)


def _swaps_last_two(exchange: ir.Node) -> bool:
    order = permutation(exchange)
    rank = len(order)
    return order == [*range(rank - 2), rank - 1, rank - 2]
