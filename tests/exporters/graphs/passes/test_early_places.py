"""Selections of first tokens and of marked places: each climbs row-wise nodes only, and no output changes."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from rankport.exporters.graphs.passes.early_rows import select_first_early, select_marked_early
from support.row_graphs import (
    FEATURES,
    FLOAT,
    SQUARE,
    TOKENS,
    Builder,
    RowWise,
    Shape,
    layer_norm,
    product,
    run,
)


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
