"""Type promotion of a traced program from the values that its trace left, without computing all of them once more.

torch runs the whole program again to learn the types at each node. A promotion leaves the type of every value that was
there, so what the trace noted holds; only the nodes that a promotion adds or changes are run. Owns no rule: those are
torch's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.fx import Interpreter, Node
from torch.onnx._internal.fx.passes import type_promotion

from rankport.exporters.temporary_attributes import temporary_attributes


@contextmanager
def promoted_from_notes() -> Iterator[None]:
    """Has `torch.onnx.export`, while open, promote types by the values that programs have noted."""
    with temporary_attributes(type_promotion._TypePromotionInterpreter, {"run_node": _run_node}):
        yield


def _run_node(interpreter: type_promotion._TypePromotionInterpreter, node: Node) -> Any:
    if node.op != "call_function" or "val" not in node.meta:
        return Interpreter.run_node(interpreter, node)
    _convert_subtracted(interpreter, node)
    rule = type_promotion.get_type_promotion_rule(node, interpreter.type_promotion_table)
    if rule is not None:
        with interpreter._set_current_node(node):
            interpreter._maybe_promote_node(node, rule)
    return node.meta["val"]


def _convert_subtracted(interpreter: Interpreter, node: Node) -> None:
    """Gives a tensor that is subtracted from a number the result's type, which torch's rules cannot: 1.0 - mask."""
    if node.target is not torch.ops.aten.sub.Tensor or isinstance(node.args[0], Node):
        return
    number, tensor = node.args[:2]
    result = node.meta["val"]
    if isinstance(tensor, Node) and tensor.meta["val"].dtype != result.dtype:
        with node.graph.inserting_before(node):
            converted = node.graph.call_function(
                torch.ops.aten._to_copy.default, (tensor,), {"dtype": result.dtype}
            )
        converted.meta = {**node.meta, "val": tensor.meta["val"].to(result.dtype)}
        interpreter.env[converted] = converted.meta["val"]
        node.args = (number, converted, *node.args[2:])
