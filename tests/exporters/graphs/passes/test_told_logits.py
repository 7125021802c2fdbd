"""Numbers that a graph tells of its logits are those that numpy finds in them."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from rankport.exporters.graphs.passes.exact_nodes import exact_nodes
from rankport.exporters.graphs.passes.told_logits import OUTPUTS, tell_of_logits

ROWS = 5


def head(vocabulary: int) -> ir.Model:
    """A product that ends in logits."""
    states = ir.Value(
        name="states", shape=ir.Shape(["items_total", 4]), type=ir.TensorType(ir.DataType.FLOAT)
    )
    weight = ir.Value(name="weight", shape=ir.Shape([4, vocabulary]), type=ir.TensorType(ir.DataType.FLOAT))
    matrix = np.random.default_rng(0).standard_normal((4, vocabulary)).astype(np.float32)
    matrix[:, 20] = matrix[:, 7]  # equal logits
    weight.const_value = ir.tensor(matrix, name="weight")
    product = ir.node("MatMul", [states, weight])
    logits = product.outputs[0]
    logits.name, logits.shape = "logits", ir.Shape(["items_total", vocabulary])
    logits.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([states], [logits], nodes=[product], initializers=[weight], opset_imports={"": 21})
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(("vocabulary", "parts", "of_part"), [(37, 1, 37), (131, 1, 64), (2048, 128, 8)])
def test_what_is_told_of_logits_is_in_them(vocabulary: int, parts: int, of_part: int) -> None:
    model = head(vocabulary)
    tell_of_logits(model)
    states = np.random.default_rng(1).standard_normal((ROWS, 4)).astype(np.float32) * 40
    asked = np.array([[4, 36], [0, 0], [4, 1], [2, 20]])
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    logits, best, largest, sums, told = session.run(
        ["logits", *OUTPUTS], {"states": states, "asked": asked @ [vocabulary, 1]}
    )
    by_part = logits.reshape(ROWS, parts, -1)
    np.testing.assert_array_equal(largest, -np.sort(-by_part, axis=2)[:, :, :of_part])
    np.testing.assert_array_equal(np.take_along_axis(by_part, best, 2), largest)
    wide = logits.astype(np.float64)
    most = wide.max(axis=1, keepdims=True)
    np.testing.assert_allclose(sums, np.log(np.exp(wide - most).sum(axis=1, keepdims=True)) + most, rtol=1e-6)
    np.testing.assert_array_equal(told, logits[asked[:, 0], asked[:, 1]])


def test_it_stays_exact_in_half_precision() -> None:
    model = head(96)
    tell_of_logits(model)
    assert exact_nodes(model.graph, ir.DataType.FLOAT16, fused=True) == set(model.graph)
