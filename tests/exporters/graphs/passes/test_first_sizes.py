import numpy as np
import onnx_ir as ir
import onnxruntime

from rankport.exporters.graphs.passes.first_sizes import read_first_sizes


def model(second: list[str | int], start: int, end: int | None) -> ir.Model:
    """y = the shape of b from `start` to `end`; a [rows, columns] comes first."""
    a, b = ir.val("a", ir.DataType.FLOAT, ["rows", "columns"]), ir.val("b", ir.DataType.FLOAT, second)
    sizes = ir.node("Shape", [b], {"start": start} | ({} if end is None else {"end": end}))
    sizes.outputs[0].name, sizes.outputs[0].dtype = "y", ir.DataType.INT64
    return ir.Model(ir.Graph([a, b], sizes.outputs, nodes=[sizes], opset_imports={"": 20}), ir_version=10)


def sizes_of(graph: ir.Model, *shapes: tuple[int, ...]) -> list[int]:
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString())
    feeds = {name: np.zeros(shape, np.float32) for name, shape in zip("ab", shapes, strict=True)}
    return list(session.run(None, feeds)[0])


def test_a_size_is_read_off_the_first_input_that_has_its_axis() -> None:
    graph = model([2, "columns"], 1, 2)
    assert read_first_sizes(graph) == 1
    (read,) = (node.inputs[0] for node in graph.graph)
    assert read is graph.graph.inputs[0]
    assert sizes_of(graph, (5, 7), (2, 7)) == [7]
    assert read_first_sizes(graph) == 0


def test_sizes_that_no_other_input_has_stay() -> None:
    for graph in (model([2, "others"], 1, 2), model([2, "columns"], 0, 1), model([2, "columns"], 0, None)):
        assert read_first_sizes(graph) == 0
