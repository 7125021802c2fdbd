"""Graphs as the manifest lists them: inputs, outputs, and the sizes their axes may take."""

import onnx_ir as ir

from rankport.exporters.graphs.passes.fp8_products import multiplies_fp8
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.graphs.trace import OPSET
from rankport.runtime.bundle.manifest import (
    AxisRange,
    DType,
    GraphSpec,
    Limits,
    Lists,
    Pair,
    Precision,
    Target,
    TensorSpec,
)

_DTYPES: dict[ir.DataType, DType] = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.FLOAT16: "float16",
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.INT64: "int64",
    ir.DataType.INT32: "int32",
    ir.DataType.INT8: "int8",
}
_LARGEST_AXIS = 2**31 - 1


def graph_specs(
    name: str, graph: RoleGraph, target: Target, precision: Precision | None = None
) -> list[GraphSpec]:
    """Lists a graph as its roles, one a role; `precision` where it is not the manifest's."""
    return [
        GraphSpec(
            role=role,
            file=f"{name}.onnx",
            opset=OPSET,
            target=target,
            precision=precision,
            onnxruntime=graph.onnxruntime,
            fp8_products=multiplies_fp8(graph.model.graph),
            inputs=[tensor_spec(value) for value in graph.model.graph.inputs],
            outputs=[tensor_spec(value) for value in graph.model.graph.outputs if value.name in outputs],
        )
        for role, outputs in graph.outputs.items()
    ]


def tensor_spec(value: ir.Value) -> TensorSpec:
    """Describes an input or output of a graph."""
    assert value.name is not None
    assert value.shape is not None
    assert value.dtype is not None
    shape = [size if isinstance(size, int) else str(size.value) for size in value.shape]
    return TensorSpec(name=value.name, dtype=_DTYPES[value.dtype], shape=shape)


def axis_ranges(
    graphs: list[GraphSpec], limits: Limits, pair: Pair | None = None, lists: Lists | None = None
) -> dict[str, AxisRange]:
    """Bounds item and prefix lengths, as the model does; how many share a pass is the runtime's choice."""
    longest = limits.max_item_tokens + limits.max_prefix_tokens if pair is None else pair.max_tokens
    bounded = {
        "item_tokens": AxisRange(min=1, max=longest),
        "list_tokens": AxisRange(min=1, max=_LARGEST_AXIS if lists is None else lists.max_tokens),
        "row_tokens": AxisRange(min=1, max=_LARGEST_AXIS),
        "source_tokens": AxisRange(min=1, max=max(1, limits.max_prefix_tokens)),
        "past": AxisRange(min=0, max=max(1, limits.max_prefix_tokens)),
        "embedding_count": AxisRange(min=1, max=_LARGEST_AXIS),
    }
    tensors = [tensor for graph in graphs for tensor in (*graph.inputs, *graph.outputs)]
    names = dict.fromkeys(axis for tensor in tensors for axis in tensor.shape if isinstance(axis, str))
    return {name: bounded.get(name, AxisRange(min=1, max=_LARGEST_AXIS)) for name in names}
