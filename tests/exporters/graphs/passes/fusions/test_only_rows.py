"""Logits of the one row of a batch: the product is of what it reads, and its numbers stay."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from rankport.exporters.graphs.passes.fusions.only_rows import take_only_rows_early

HIDDEN, WIDTH = 5, 7
WEIGHTS = np.random.default_rng(0).standard_normal((HIDDEN, WIDTH)).astype(np.float32)


def constant(name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    value.const_value = tensor
    return value


def model(axis: int, batch: int | str, *, read_whole: bool = False) -> ir.Model:
    """Makes a head with soft-capping, of whose batch the first is given."""
    states = ir.Value(
        name="states", shape=ir.Shape([batch, "tokens", HIDDEN]), type=ir.TensorType(ir.DataType.FLOAT)
    )
    constants = [
        constant("weights", WEIGHTS),
        constant("cap", np.array(3, np.float32)),
        constant("first", np.array(0, np.int64)),
    ]
    weights, cap, first = constants
    product = ir.node("MatMul", [states, weights])
    small = ir.node("Div", [product.outputs[0], cap])
    tanh = ir.node("Tanh", [small.outputs[0]])
    capped = ir.node("Mul", [tanh.outputs[0], cap])
    capped.outputs[0].shape = ir.Shape([batch, "tokens", WIDTH])
    given = ir.node("Gather", [capped.outputs[0], first], {"axis": axis})
    given.outputs[0].name = "logits"
    outputs = [given.outputs[0]]
    if read_whole:
        capped.outputs[0].name = "whole"
        outputs.append(capped.outputs[0])
    for output in outputs:
        output.type = ir.TensorType(ir.DataType.FLOAT)
    nodes = [product, small, tanh, capped, given]
    graph = ir.Graph([states], outputs, nodes=nodes, initializers=constants, opset_imports={"": 21})
    return ir.Model(graph, ir_version=10)


def logits(of: ir.Model, states: np.ndarray) -> np.ndarray:
    data = ir.to_proto(of).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(["logits"], {"states": states})[0]
    return result


def test_a_head_reads_the_only_row_of_its_batch() -> None:
    states = np.random.default_rng(1).standard_normal((1, 4, HIDDEN)).astype(np.float32)
    changed = model(0, 1)
    assert take_only_rows_early(changed) == 4
    assert [node.op_type for node in changed.graph] == ["Gather", "MatMul", "Div", "Tanh", "Mul"]
    expected = 3 * np.tanh(states[0] @ WEIGHTS / 3)
    np.testing.assert_allclose(logits(changed, states), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("axis", "batch", "read_whole"),
    [
        pytest.param(1, 1, False, id="a token"),
        pytest.param(0, "texts", False, id="a batch of several"),
        pytest.param(0, 1, True, id="others read the whole"),
    ],
)
def test_what_is_no_only_row_stays(axis: int, batch: int | str, read_whole: bool) -> None:
    states = np.random.default_rng(2).standard_normal((1, 4, HIDDEN)).astype(np.float32)
    kept = model(axis, batch, read_whole=read_whole)
    expected = logits(kept, states)
    assert take_only_rows_early(kept) == 0
    np.testing.assert_array_equal(logits(kept, states), expected)
