"""Low-bit products of one input become one, whose parts are what the products were."""

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from rankport.exporters.graphs.passes.fusions.joined import join_low_bit_products

IN, BLOCK = 64, 32


def constant(name: str, array: NDArray[np.generic]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    value.const_value = tensor
    return value


def product(states: ir.Value, name: str, rows: int, weights: list[ir.Value]) -> ir.Node:
    rng = np.random.default_rng(rows)
    weights += [
        constant(f"{name}.codes", rng.integers(0, 256, (rows, IN // BLOCK, BLOCK // 2), np.uint8)),
        constant(f"{name}.scales", rng.random((rows, IN // BLOCK), np.float32)),
    ]
    numbers = {"K": IN, "N": rows, "bits": 4, "block_size": BLOCK, "accuracy_level": 1}
    node = ir.node("MatMulNBits", [states, *weights[-2:]], numbers, domain="com.microsoft")
    node.outputs[0].name, node.outputs[0].type = name, states.type
    return node


def two_inputs() -> ir.Model:
    """Three products of `x`, and one of `z`."""
    x, z = (
        ir.Value(name=name, shape=ir.Shape(["rows", IN]), type=ir.TensorType(ir.DataType.FLOAT))
        for name in "xz"
    )
    weights: list[ir.Value] = []
    sizes = {"query": (x, 32), "key": (x, 16), "value": (x, 16), "other": (z, 16)}
    nodes = [product(states, name, rows, weights) for name, (states, rows) in sizes.items()]
    outputs = [node.outputs[0] for node in nodes]
    graph = ir.Graph(
        inputs=[x, z],
        outputs=outputs,
        nodes=nodes,
        initializers=weights,
        opset_imports={"": 21, "com.microsoft": 1},
    )
    return ir.Model(graph, ir_version=10)


def run(model: ir.Model) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    inputs = {name: rng.standard_normal((3, IN), np.float32) for name in "xz"}
    data = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    outputs: list[NDArray[np.float32]] = session.run(["query", "key", "value", "other"], inputs)
    return outputs


def test_products_of_one_input_are_one_with_the_same_results() -> None:
    model = two_inputs()
    expected = run(model)
    assert join_low_bit_products(model) == 3
    joined = [node for node in model.graph if node.op_type == "MatMulNBits"]
    assert sorted(node.attributes.get_int("N", 0) for node in joined) == [16, 64]
    for before, after in zip(expected, run(model), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5)
