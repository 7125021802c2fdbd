import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from rankport.exporters.graphs.passes.divide_by_root import divide_by_root


def model(inverse_first: bool, inverse: str = "Reciprocal") -> ir.Model:
    """y = x * (1 / sqrt(v)), either way round."""
    x = ir.val("x", ir.DataType.FLOAT, ["n"])
    v = ir.val("v", ir.DataType.FLOAT, ["n"])
    root = ir.node("Sqrt", [v])
    factor = ir.node(inverse, [root.outputs[0]])
    product = ir.node("Mul", [factor.outputs[0], x] if inverse_first else [x, factor.outputs[0]])
    tail = ir.node("Neg", [product.outputs[0]])
    tail.outputs[0].name, tail.outputs[0].dtype = "y", ir.DataType.FLOAT
    nodes = [root, factor, product, tail]
    return ir.Model(ir.Graph([x, v], tail.outputs, nodes=nodes, opset_imports={"": 20}), ir_version=10)


def run(graph: ir.Model) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString())
    feeds = {"x": np.array([3, -2], np.float32), "v": np.array([4, 0.25], np.float32)}
    return np.asarray(session.run(None, feeds)[0])


@pytest.mark.parametrize("inverse_first", [True, False])
def test_a_product_with_an_inverse_root_becomes_a_quotient(inverse_first: bool) -> None:
    graph = model(inverse_first)
    before = run(graph)
    assert divide_by_root(graph) == 1
    assert [node.op_type for node in graph.graph] == ["Sqrt", "Div", "Neg"]
    assert np.allclose(run(graph), before)


def test_the_product_may_be_what_a_graph_gives() -> None:
    graph = model(True)
    (last,) = graph.graph.outputs
    product = last.producer().inputs[0]  # type: ignore[union-attr]
    assert product is not None
    last.name, product.name = "not y", "y"
    graph.graph.outputs[0] = product
    before = run(graph)
    assert divide_by_root(graph) == 1
    assert [value.name for value in graph.graph.outputs] == ["y"]
    assert np.allclose(run(graph), before)


def test_other_products_stay() -> None:
    graph = model(True, inverse="Exp")
    assert divide_by_root(graph) == 0
    assert [node.op_type for node in graph.graph] == ["Sqrt", "Exp", "Mul", "Neg"]
