"""The operators of ONNX Runtime that a graph on a CPU is made of where it writes token by token.

A pass over one token costs a node nearly as much as one over a prompt: what counts is how many nodes there are.
"""

import onnx_ir as ir

from rankport.exporters.graphs.passes.fusions.joined import join_low_bit_products
from rankport.exporters.graphs.passes.fusions.norms import fuse_norms
from rankport.exporters.graphs.passes.fusions.only_rows import take_only_rows_early
from rankport.exporters.graphs.passes.fusions.rotary import fuse_rotary
from rankport.exporters.graphs.passes.fusions.transposes import drop_undone_transposes
from rankport.exporters.graphs.passes.fusions.units import fuse_units


def fuse_for_writing(model: ir.Model) -> None:
    """Rotations first: they are found by the shapes that the other passes leave behind."""
    fuse_rotary(model)
    drop_undone_transposes(model)
    fuse_norms(model)
    fuse_units(model)
    join_low_bit_products(model)
    take_only_rows_early(model)
    model.opset_imports["com.microsoft"] = 1
