"""The operators of ONNX Runtime that a graph for CUDA is made of, where they save passes over memory."""

import onnx_ir as ir

from rankport.exporters.graphs.passes.fusions.grouped import fuse_into_grouped
from rankport.exporters.graphs.passes.fusions.norms import fuse_norms
from rankport.exporters.graphs.passes.fusions.products import fuse_products
from rankport.exporters.graphs.passes.fusions.rotary import fuse_rotary
from rankport.exporters.graphs.passes.fusions.transposes import drop_undone_transposes


def fuse_for_cuda(model: ir.Model) -> None:
    """Rotations first: they are found by the shapes that the other passes leave behind."""
    fuse_rotary(model)
    drop_undone_transposes(model)
    fuse_norms(model)
    fuse_into_grouped(model)
    fuse_products(model)
    if any(node.domain == "com.microsoft" for node in model.graph):
        model.opset_imports["com.microsoft"] = 1
