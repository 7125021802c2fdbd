"""Graph pass: two exchanges of axes that undo each other are none.

requires: nothing.
ensures:  what reads the second reads what the first read.
"""

import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.fusions.matching import made_by, permutation


def drop_undone_transposes(model: ir.Model) -> int:
    """Rewires around every such pair. Returns how many."""
    dropped = 0
    for second in list(model.graph):
        first = made_by(second.inputs[0], "Transpose") if second.op_type == "Transpose" else None
        if first is None or second.outputs[0].is_graph_output():
            continue
        inner, outer = permutation(first), permutation(second)
        source = first.inputs[0]
        if source is not None and [inner[axis] for axis in outer] == list(range(len(outer))):
            second.outputs[0].replace_all_uses_with(source)
            dropped += 1
    passes.RemoveUnusedNodesPass()(model)
    return dropped
