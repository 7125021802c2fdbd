"""Vectors that are divided by their length: one operator, with the same numbers."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from rankport.exporters.graphs.passes.fusions.units import fuse_units

WIDTH, EPSILON = 6, 1e-6


def constant(name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    value.const_value = tensor
    return value


def model(axis: int, *, width: int | str = WIDTH, of_others: bool = False) -> ir.Model:
    """Makes x / sqrt(sum(x * x) + eps); `of_others` sums products with another vector."""
    states, other = (
        ir.Value(name=name, shape=ir.Shape([1, "tokens", 2, width]), type=ir.TensorType(ir.DataType.FLOAT))
        for name in ("states", "other")
    )
    axes = constant("axes", np.array([axis], np.int64))
    epsilon = constant("epsilon", np.array(EPSILON, np.float32))
    square = ir.node("Mul", [states, other if of_others else states])
    sum_ = ir.node("ReduceSum", [square.outputs[0], axes])
    total = ir.node("Add", [sum_.outputs[0], epsilon])
    root = ir.node("Sqrt", [total.outputs[0]])
    quotient = ir.node("Div", [states, root.outputs[0]])
    result = quotient.outputs[0]
    result.name, result.type = "units", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [states, other],
        [result],
        nodes=[square, sum_, total, root, quotient],
        initializers=[axes, epsilon],
        opset_imports={"": 21},
    )
    return ir.Model(graph, ir_version=10)


def run(of: ir.Model) -> np.ndarray:
    states, other = np.random.default_rng(0).standard_normal((2, 1, 3, 2, WIDTH)).astype(np.float32)
    session = onnxruntime.InferenceSession(ir.to_proto(of).SerializeToString())
    (units,) = session.run(None, {"states": states, "other": np.abs(states) + np.abs(other)})
    return np.asarray(units)


def test_it_is_one_operator_with_the_same_numbers() -> None:
    made = model(-1)
    before = run(made)
    assert fuse_units(made) == 1
    assert [node.op_type for node in made.graph] == ["SimplifiedLayerNormalization"]
    np.testing.assert_allclose(run(made), before, rtol=1e-5)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(model(2), id="over another axis"),
        pytest.param(model(-1, width="width"), id="a width that is not known"),
        pytest.param(model(-1, of_others=True), id="products with another vector"),
    ],
)
def test_what_is_something_else_stays(made: ir.Model) -> None:
    before = run(made)
    assert fuse_units(made) == 0
    assert len(list(made.graph)) == 5
    np.testing.assert_array_equal(run(made), before)
