"""Selections of rows: each climbs row-wise nodes only, and no output changes."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from rankport.exporters.graphs.passes.early_rows import select_rows_early
from rankport.exporters.graphs.passes.loud_products import LOUD_PRODUCT, expand_loud_products
from support.row_graphs import (
    FEATURES,
    FLOAT,
    ROW,
    STATES,
    TOKENS,
    Builder,
    RowWise,
    layer_norm,
    product,
    run,
)

Barrier = Callable[[Builder], ir.Value]


def selected_and_read(builder: Builder, states: ir.Value, *others: ir.Value) -> ir.Model:
    """A graph whose first output reads the selected rows."""
    return builder.model(builder.add("Neg", builder.select(states), shape=(1, "rows", "width")), *others)


def moved(model: ir.Model) -> tuple[int, list[str]]:
    """Runs the pass and checks that the outputs stay. Returns how many nodes moved and what is selected from."""
    before = run(model)
    count = select_rows_early(model, rows="rows")
    for expected, output in zip(before, run(model), strict=True):
        assert output.shape == expected.shape
        assert np.allclose(output, expected, atol=1e-6)
    assert any(node.op_type == "GatherND" for node in model.graph) == (count == 0)
    gathers = [node for node in model.graph if node.op_type == "Gather"]
    assert all(node.inputs[1] is model.graph.inputs[1] for node in gathers)
    return count, [str(node.inputs[0].name) for node in gathers if node.inputs[0] is not None]


def elementwise(b: Builder, x: ir.Value) -> ir.Value:
    biased = b.add("Add", b.constant(ROW), x)
    gate = b.add("Sigmoid", b.add("Mul", biased, b.constant(ROW.reshape(1, 1, -1))))
    return b.add("Mul", b.add("Sub", gate, b.constant(0.5)), biased)


def rms_norm(b: Builder, x: ir.Value) -> ir.Value:
    axes, column = b.constant(np.array([-1])), (1, "tokens", 1)
    mean = b.add("ReduceMean", b.add("Mul", x, x), axes, shape=column)
    root = b.add("Sqrt", b.add("Add", mean, b.constant(1e-5), shape=column), shape=column)
    return b.add("Mul", b.add("Div", x, root), b.constant(ROW))


def gated_halves(b: Builder, x: ir.Value) -> ir.Value:
    half = (1, "tokens", FEATURES // 2)
    up, gate = b.split("Split", x, shapes=[half, half], axis=-1, num_outputs=2)
    return b.add("Mul", up, b.add("Sigmoid", gate, shape=half), shape=half)


def quantized(b: Builder, x: ir.Value, scales: np.ndarray | float, **axis: int) -> ir.Value:
    codes = b.add("QuantizeLinear", x, b.constant(scales), **axis)
    codes.dtype = ir.DataType.UINT8
    return b.add("DequantizeLinear", codes, b.constant(scales), **axis)


def one_scale(b: Builder, x: ir.Value) -> ir.Value:
    return quantized(b, x, 0.1)


@pytest.mark.parametrize(
    ("row_wise", "nodes"),
    [(product, 1), (elementwise, 5), (rms_norm, 6), (layer_norm, 1), (gated_halves, 3), (one_scale, 2)],
)
def test_the_selection_moves_above_row_wise_nodes(row_wise: RowWise, nodes: int) -> None:
    b = Builder()
    assert moved(selected_and_read(b, row_wise(b, b.states))) == (nodes, ["states"])


def test_a_block_selects_from_its_attention_output_and_from_its_residual() -> None:
    b = Builder()
    attention = b.add("CumSum", b.states, b.constant(np.array(1)))
    residual = b.add("Add", b.states, product(b, attention))
    block = b.add("Add", residual, product(b, rms_norm(b, residual)))
    count, selected = moved(selected_and_read(b, block))
    assert count == 10
    assert sorted(selected) == ["CumSum0.0", "states"]


def with_loud_product() -> ir.Model:
    """Rows of a product with a loud column, as it stands while it is traced."""
    b = Builder()
    draw = np.random.default_rng(2)
    codes = b.constant(draw.integers(-127, 128, (FEATURES, FEATURES)).astype(np.int8))
    quiet, weight = np.array([1, 1, 0, 1], np.float32), draw.normal(size=(1, FEATURES)).astype(np.float32)
    constants = (codes, *map(b.constant, (np.abs(ROW) / 127, quiet, np.array([2]), weight)))
    domain, operator = LOUD_PRODUCT.split("::")
    attributes = {"divisor": 127.0, "least_scale": 1e-8}
    node = ir.node(operator, [b.states, *constants], attributes, domain=domain)
    node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = "loud", FLOAT, ir.Shape(STATES)
    b.nodes.append(node)
    return selected_and_read(b, node.outputs[0])


def test_a_product_with_loud_columns_computes_the_rows_alone() -> None:
    every, early = with_loud_product(), with_loud_product()
    assert select_rows_early(early, "rows") == 1
    assert expand_loud_products(every) == expand_loud_products(early) == 1
    rounding = next(node for node in early.graph if node.op_type == "QuantizeLinear")
    reshape = rounding.inputs[0].producer() if rounding.inputs[0] is not None else None
    assert reshape is not None
    assert reshape.inputs[0] is not None
    gather = reshape.inputs[0].producer()
    assert gather is not None
    assert gather.op_type == "Gather"
    assert np.array_equal(run(early)[0], run(every)[0])


def test_nodes_that_moved_forget_their_token_axis() -> None:
    b = Builder()
    state = product(b, b.states)
    model = selected_and_read(b, state)
    moved(model)
    assert state.shape == ir.Shape([1, None, 4])


def test_a_residual_that_is_also_an_output_is_selected_from_and_not_swallowed() -> None:
    b = Builder()
    residual = product(b, b.states)
    block = b.add("Add", residual, b.add("Relu", residual))
    assert moved(selected_and_read(b, block, residual)) == (2, ["out1"])


def test_a_residual_with_a_reader_outside_is_selected_from_and_not_swallowed() -> None:
    b = Builder()
    residual = product(b, b.states)
    sums = b.add("CumSum", residual, b.constant(np.array(1)))
    block = b.add("Add", residual, b.add("Relu", residual))
    assert moved(selected_and_read(b, block, sums)) == (2, ["MatMul0.0"])


def test_a_value_that_two_nodes_read_is_selected_from_once() -> None:
    b = Builder()
    mixed = b.add("Softmax", b.states, axis=1)
    block = b.add("Add", product(b, mixed), b.add("Mul", mixed, mixed))
    assert moved(selected_and_read(b, block)) == (3, ["Softmax0.0"])


def reshape(b: Builder) -> ir.Value:
    return b.add("Reshape", b.states, b.constant(np.array([1, -1, FEATURES])))


def product_of_states(b: Builder) -> ir.Value:
    turned = ir.node("Transpose", [b.states], {"perm": [0, 2, 1]})
    b.nodes.append(turned)
    gram = b.add("MatMul", turned.outputs[0], b.states, shape=(1, FEATURES, FEATURES))
    return b.add("MatMul", b.states, gram)


def softmax_over_tokens(b: Builder) -> ir.Value:
    return b.add("Softmax", b.states, axis=1)


def mean_over_tokens(b: Builder) -> ir.Value:
    mean = b.add("ReduceMean", b.states, b.constant(np.array([1])), shape=(1, 1, FEATURES))
    return b.add("Sub", b.states, mean)


def constant_per_token(b: Builder) -> ir.Value:
    return b.add("Add", b.states, b.constant(np.arange(TOKENS, dtype=np.float32).reshape(TOKENS, 1)))


def scale_per_token(b: Builder) -> ir.Value:
    return quantized(b, b.states, np.linspace(0.1, 0.5, TOKENS, dtype=np.float32), axis=1)


BARRIERS = [
    scale_per_token,
    reshape,
    product_of_states,
    softmax_over_tokens,
    mean_over_tokens,
    constant_per_token,
]


@pytest.mark.parametrize("barrier", BARRIERS)
def test_the_selection_stops_below_what_mixes_tokens(barrier: Barrier) -> None:
    b = Builder()
    mixed = barrier(b)
    assert moved(selected_and_read(b, b.add("Relu", mixed))) == (1, [mixed.name])


@pytest.mark.parametrize("barrier", BARRIERS)
def test_a_selection_right_below_a_barrier_changes_nothing(barrier: Barrier) -> None:
    b = Builder()
    model = selected_and_read(b, barrier(b))
    before = ir.to_proto(model).SerializeToString()
    assert moved(model) == (0, [])
    assert ir.to_proto(model).SerializeToString() == before


@pytest.mark.parametrize("name", ["rows", "absent"])
def test_a_graph_without_a_selection_stays(name: str) -> None:
    b = Builder()
    index = b.add("Cast", b.rows, shape=("rows",), to=FLOAT.value)
    model = b.model(product(b, b.states), index)
    before = ir.to_proto(model).SerializeToString()
    assert select_rows_early(model, rows=name) == 0
    assert ir.to_proto(model).SerializeToString() == before


def test_a_selection_whose_inner_values_others_read_stays() -> None:
    builder = Builder()
    moved = builder.add("Neg", builder.states)
    selected = builder.select(moved)
    before = next(node for node in builder.nodes if node.op_type == "Transpose").outputs[0]
    before.shape, before.dtype = ir.Shape(("tokens", 1, FEATURES)), FLOAT
    model = builder.model(builder.add("Neg", selected, shape=(1, "rows", FEATURES)), before)
    expected = run(model)
    assert select_rows_early(model, "rows") == 0
    assert all(np.array_equal(a, b) for a, b in zip(run(model), expected, strict=True))


def test_a_selection_that_is_an_output_itself_stays() -> None:
    builder = Builder()
    model = builder.model(builder.select(builder.add("Neg", builder.states)))
    expected = run(model)
    assert select_rows_early(model, "rows") == 0
    assert np.array_equal(run(model)[0], expected[0])
