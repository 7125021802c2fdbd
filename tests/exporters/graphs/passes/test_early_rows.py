"""Selections of rows, first tokens and marked places: each climbs row-wise nodes only, and no output changes."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from rankport.exporters.graphs.passes.early_rows import (
    select_first_early,
    select_marked_early,
    select_rows_early,
)

Shape = tuple[int | str, ...]
RowWise = Callable[["Builder", ir.Value], ir.Value]
Barrier = Callable[["Builder"], ir.Value]

TOKENS, FEATURES = 5, 4
STATES: Shape = (1, "tokens", FEATURES)
FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64
SQUARE = np.random.default_rng(0).normal(size=(FEATURES, FEATURES)).astype(np.float32)
ROW = np.array([1, -2, 0.5, 3], np.float32)


class Builder:
    """A graph of `states` [1, tokens, features] and `rows` [rows], node by node."""

    def __init__(self) -> None:
        self.states = ir.val("states", FLOAT, STATES)
        self.rows = ir.val("rows", INT64, ["rows"])
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []

    def constant(self, data: np.ndarray | float) -> ir.Value:
        tensor = ir.tensor(np.asarray(data, None if isinstance(data, np.ndarray) else np.float32))
        self.constants.append(ir.val(f"c{len(self.constants)}", const_value=tensor))
        return self.constants[-1]

    def split(self, op: str, *inputs: ir.Value, shapes: list[Shape], **attributes: int) -> list[ir.Value]:
        node = ir.node(op, inputs, attributes, num_outputs=len(shapes))
        for position, (value, shape) in enumerate(zip(node.outputs, shapes, strict=True)):
            value.name, value.dtype, value.shape = f"{op}{len(self.nodes)}.{position}", FLOAT, ir.Shape(shape)
        self.nodes.append(node)
        return list(node.outputs)

    def add(self, op: str, *inputs: ir.Value, shape: Shape = STATES, **attributes: int) -> ir.Value:
        return self.split(op, *inputs, shapes=[shape], **attributes)[0]

    def select(self, states: ir.Value) -> ir.Value:
        """`states[:, rows]` as the torch exporter writes it."""
        swap = {"perm": [1, 0, 2]}
        index = ir.node("Unsqueeze", [self.rows, self.constant(np.array([-1]))])
        before = ir.node("Transpose", [states], swap)
        gather = ir.node("GatherND", [before.outputs[0], index.outputs[0]], {"batch_dims": 0})
        after = ir.node("Transpose", gather.outputs, swap)
        self.nodes += [index, before, gather, after]
        return after.outputs[0]

    def model(self, *outputs: ir.Value) -> ir.Model:
        for position, value in enumerate(outputs):
            value.name, value.dtype = f"out{position}", FLOAT
        inputs, opsets = [self.states, self.rows], {"": 20}
        graph = ir.Graph(inputs, outputs, nodes=self.nodes, initializers=self.constants, opset_imports=opsets)
        return ir.Model(graph, ir_version=10)


def selected_and_read(builder: Builder, states: ir.Value, *others: ir.Value) -> ir.Model:
    """A graph whose first output reads the selected rows."""
    return builder.model(builder.add("Neg", builder.select(states), shape=(1, "rows", "width")), *others)


def run(model: ir.Model) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    states = np.random.default_rng(1).normal(size=(1, TOKENS, FEATURES)).astype(np.float32)
    feeds = {"states": states, "rows": np.array([3, 0, 3, 4])}
    return [np.asarray(output) for output in session.run(None, feeds)]


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


def product(b: Builder, x: ir.Value) -> ir.Value:
    return b.add("MatMul", x, b.constant(SQUARE))


def elementwise(b: Builder, x: ir.Value) -> ir.Value:
    biased = b.add("Add", b.constant(ROW), x)
    gate = b.add("Sigmoid", b.add("Mul", biased, b.constant(ROW.reshape(1, 1, -1))))
    return b.add("Mul", b.add("Sub", gate, b.constant(0.5)), biased)


def rms_norm(b: Builder, x: ir.Value) -> ir.Value:
    axes, column = b.constant(np.array([-1])), (1, "tokens", 1)
    mean = b.add("ReduceMean", b.add("Mul", x, x), axes, shape=column)
    root = b.add("Sqrt", b.add("Add", mean, b.constant(1e-5), shape=column), shape=column)
    return b.add("Mul", b.add("Div", x, root), b.constant(ROW))


def layer_norm(b: Builder, x: ir.Value) -> ir.Value:
    return b.add("LayerNormalization", x, b.constant(ROW), b.constant(ROW), axis=-1)


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


def test_nodes_that_moved_forget_their_token_axis() -> None:
    b = Builder()
    state = product(b, b.states)
    model = selected_and_read(b, state)
    moved(model)
    assert state.shape is None


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


def first_by_gather(b: Builder, states: ir.Value) -> ir.Value:
    return b.add("Gather", states, b.constant(np.array(0)), shape=(1, FEATURES), axis=1)


def first_by_slice(b: Builder, states: ir.Value) -> ir.Value:
    bounds = [b.constant(np.array([number])) for number in (0, 1, 1)]
    return b.add("Slice", states, *bounds, shape=(1, 1, FEATURES))


@pytest.mark.parametrize("first", [first_by_gather, first_by_slice])
def test_a_block_computes_its_first_token_alone(first: RowWise) -> None:
    b = Builder()
    attention = b.add("CumSum", b.states, b.constant(np.array(1)))
    residual = b.add("Add", b.states, product(b, attention))
    block = b.add("Add", residual, product(b, layer_norm(b, residual)))
    model = b.model(first(b, block))
    expected = run(model)
    assert select_first_early(model) == 5
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(run(model), expected, strict=True))
    gathers = [node for node in model.graph if node.op_type == "Gather"]
    rows = [
        node.inputs[0].name for node in gathers if node.inputs[0] and node.inputs[1].name == "first_token"
    ]
    assert sorted(rows) == ["CumSum0.0", "states"]


def test_first_tokens_stay_where_all_tokens_are_read_too() -> None:
    b = Builder()
    states = product(b, b.states)
    model = b.model(first_by_gather(b, states), states)
    assert select_first_early(model) == 0


@pytest.mark.parametrize("place", [1, -1])
def test_other_tokens_than_the_first_are_left_alone(place: int) -> None:
    b = Builder()
    read = b.add("Gather", product(b, b.states), b.constant(np.array(place)), shape=(1, FEATURES), axis=1)
    assert select_first_early(b.model(read)) == 0


MARKS = np.array([[1, 4, 0], [2, 2, 3]])


def marked(b: Builder, *outputs: ir.Value) -> ir.Model:
    """A graph of two texts that reads each at places of its own, as the torch exporter writes `torch.gather`."""
    model = b.model(*outputs)
    model.graph.inputs[1].shape = ir.Shape(["any", "marks"])
    return model


def gathered(b: Builder, states: ir.Value) -> ir.Value:
    places = ir.node("Unsqueeze", [b.rows, b.constant(np.array([2]))])
    size = b.constant(np.array([1, 1, FEATURES]))
    wide = ir.node("Expand", [places.outputs[0], size])
    gather = ir.node("GatherElements", [states, wide.outputs[0]], {"axis": 1})
    gather.outputs[0].dtype, gather.outputs[0].shape = FLOAT, ir.Shape(("any", "marks", FEATURES))
    b.nodes += [places, wide, gather]
    return gather.outputs[0]


def run_marked(model: ir.Model) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    states = np.random.default_rng(1).normal(size=(2, TOKENS, FEATURES)).astype(np.float32)
    return np.asarray(session.run(None, {"states": states, "rows": MARKS})[0])


def of_two(states: Shape = ("any", "tokens", FEATURES)) -> Builder:
    b = Builder()
    b.states.shape = ir.Shape(states)
    return b


@pytest.mark.parametrize("is_output", [True, False])
def test_each_text_is_read_at_its_own_places_early(is_output: bool) -> None:
    shape: Shape = ("any", "tokens", FEATURES)
    b = of_two()
    mixed = b.add("CumSum", b.states, b.constant(np.array(1)), shape=shape)
    block = b.add("Add", mixed, b.add("MatMul", mixed, b.constant(SQUARE), shape=shape), shape=shape)
    selected = gathered(b, block)
    model = marked(b, selected if is_output else b.add("Neg", selected, shape=("any", "marks", FEATURES)))
    expected = run_marked(model)
    assert select_marked_early(model, "rows") == 2
    gathers = [node for node in model.graph if node.op_type.startswith("Gather")]
    assert [(node.op_type, node.inputs[0].name) for node in gathers] == [("GatherND", mixed.name)]
    assert model.graph.outputs[0].name == "out0"
    np.testing.assert_allclose(run_marked(model), expected, rtol=1e-6)


def test_rows_that_all_texts_share_are_not_read_at_places_of_each() -> None:
    shape: Shape = ("any", "tokens", FEATURES)
    b = of_two()
    shared = b.add("ReduceMean", b.states, b.constant(np.array([0])), shape=(1, "tokens", FEATURES))
    model = marked(b, gathered(b, b.add("Add", b.states, shared, shape=shape)))
    expected = run_marked(model)
    assert select_marked_early(model, "rows") == 0
    np.testing.assert_array_equal(run_marked(model), expected)
