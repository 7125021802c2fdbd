"""What a graph tells of its logits is what numpy finds in them."""

import numpy as np
import onnx_ir as ir
import onnxruntime

from rankport.exporters.graphs.passes.exact_nodes import exact_nodes
from rankport.exporters.graphs.passes.told_logits import OUTPUTS, tell_of_logits

ROWS, VOCABULARY = 5, 37


def head() -> ir.Model:
    """A product that ends in logits."""
    states = ir.Value(
        name="states", shape=ir.Shape(["items_total", 4]), type=ir.TensorType(ir.DataType.FLOAT)
    )
    weight = ir.Value(name="weight", shape=ir.Shape([4, VOCABULARY]), type=ir.TensorType(ir.DataType.FLOAT))
    matrix = np.random.default_rng(0).standard_normal((4, VOCABULARY)).astype(np.float32)
    matrix[:, 20] = matrix[:, 7]  # equal logits
    weight.const_value = ir.tensor(matrix, name="weight")
    product = ir.node("MatMul", [states, weight])
    logits = product.outputs[0]
    logits.name, logits.shape = "logits", ir.Shape(["items_total", VOCABULARY])
    logits.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([states], [logits], nodes=[product], initializers=[weight], opset_imports={"": 21})
    return ir.Model(graph, ir_version=10)


def test_what_is_told_of_logits_is_in_them() -> None:
    model = head()
    tell_of_logits(model)
    states = np.random.default_rng(1).standard_normal((ROWS, 4)).astype(np.float32) * 40
    asked = np.array([[4, 36], [0, 0], [4, 1], [2, 20]])
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    logits, best, largest, sums, told = session.run(
        ["logits", *OUTPUTS], {"states": states, "asked": asked @ [VOCABULARY, 1]}
    )
    np.testing.assert_array_equal(best[:, 0], logits.argmax(axis=1))
    np.testing.assert_array_equal(largest[:, 0], logits.max(axis=1))
    wide = logits.astype(np.float64)
    most = wide.max(axis=1, keepdims=True)
    np.testing.assert_allclose(sums, np.log(np.exp(wide - most).sum(axis=1, keepdims=True)) + most, rtol=1e-6)
    np.testing.assert_array_equal(told, logits[asked[:, 0], asked[:, 1]])


def test_it_stays_exact_in_half_precision() -> None:
    model = head()
    tell_of_logits(model)
    assert exact_nodes(model.graph, ir.DataType.FLOAT16, fused=True) == set(model.graph)
