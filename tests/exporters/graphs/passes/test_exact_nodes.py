"""Which nodes of linear attention stay in fp32: what its decays multiply along a text, and nothing beside it."""

import math
from collections.abc import Sequence

import onnx_ir as ir
from onnx import TensorProto, helper

from rankport.exporters.graphs.passes.exact_nodes import exact_nodes
from rankport.exporters.graphs.passes.half_precision import to_half_precision

FLOAT = TensorProto.FLOAT
NODES = (
    ("MatMul", ["hidden", "weight"], ["projected"]),
    ("CausalConvWithState", ["projected", "taps", "", "past_conv_state.0"], ["convolved", ""]),
    ("Relu", ["convolved"], ["unit"]),
    ("MatMul", ["hidden", "gates"], ["steps"]),
    ("Softplus", ["steps"], ["decay"]),
    ("Sigmoid", ["steps"], ["beta"]),
    ("MatMul", ["unit", "past_recurrent_state.0"], ["read"]),
    ("Sub", ["unit", "read"], ["value"]),
    ("LinearAttention", ["unit", "unit", "value", "", "decay", "beta"], ["own", "new_recurrent_state.0"]),
    ("Add", ["own", "read"], ["mixed"]),
    ("Sigmoid", ["projected"], ["gate"]),
    ("Mul", ["mixed", "gate"], ["gated"]),
    ("MatMul", ["gated", "out"], ["given"]),
    ("Relu", ["given"], ["after"]),
)
Nodes = Sequence[tuple[str, list[str], list[str]]]
TYPES = {"codes": TensorProto.INT8, "sums": TensorProto.INT32}


def rounded(of: str, made: str) -> Nodes:
    """Multiplies by codes: the scale of a token goes around the product."""
    return [
        ("Abs", [of], [f"{of}.sizes"]),
        ("ReduceMax", [f"{of}.sizes"], [f"{of}.scale"]),
        ("Div", [of, f"{of}.scale"], [f"{of}.shares"]),
        ("Round", [f"{of}.shares"], [f"{of}.rounded"]),
        ("Cast", [f"{of}.rounded"], [f"{of}.codes"]),
        ("MatMulInteger", [f"{of}.codes", "weight.codes"], [f"{of}.sums"]),
        ("Cast", [f"{of}.sums"], [f"{of}.numbers"]),
        ("Mul", [f"{of}.numbers", f"{of}.scale"], [made]),
    ]


EXACT = {"unit", "decay", "beta", "read", "value", "own", "mixed", "gated"}


def model(nodes: Nodes = NODES) -> ir.Model:
    """Makes a layer of one head, whose state is a matrix of all prefixes."""
    own = {"CausalConvWithState", "LinearAttention"}
    inputs = {"hidden": [2, 3, 4], "past_conv_state.0": [2, 4, 3], "past_recurrent_state.0": [4, 4]}
    weights = {"weight": [4, 4], "taps": [4, 1, 4], "gates": [4, 1], "out": [4, 4], "weight.codes": [4, 4]}
    graph = helper.make_graph(
        [
            helper.make_node(
                kind,
                given,
                made,
                domain="com.microsoft" if kind in own else "",
                **({"to": type_of(made[0])} if kind == "Cast" else {}),
            )
            for kind, given, made in nodes
        ],
        "layer",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in ("after", "new_recurrent_state.0")],
        [
            helper.make_tensor(name, type_of(name), shape, [1] * math.prod(shape))
            for name, shape in weights.items()
        ],
        value_info=[
            helper.make_tensor_value_info(name, type_of(name), None)
            for _, _, made in nodes
            for name in made
            if name
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def type_of(name: str) -> int:
    return TYPES.get(name.rpartition(".")[2], FLOAT)


def test_linear_attention_is_exact_from_the_products_before_it_to_that_behind() -> None:
    graph = model().graph
    made = {node.outputs[0].name for node in exact_nodes(graph, ir.DataType.FLOAT16, fused=True)}
    assert made == EXACT


def test_decays_that_only_the_past_is_multiplied_by_are_exact_too() -> None:
    """Mamba 2's, whose values do not depend on the past state, were summed up in half precision."""
    behind = (
        ("CumSum", ["decay"], ["sums_of_decays"]),
        ("Exp", ["sums_of_decays"], ["left"]),
        ("Mul", ["read", "left"], ["past"]),
        ("LinearAttention", ["unit", "unit", "unit", "", "decay"], ["own", "new_recurrent_state.0"]),
        ("Add", ["own", "past"], ["mixed"]),
    )
    replaced = {"beta", "value", "own", "mixed"}
    layer = [node for node in NODES if node[2][0] not in replaced]
    graph = model([*layer[:6], *behind, *layer[6:]]).graph
    exact = {node.outputs[0].name for node in exact_nodes(graph, ir.DataType.FLOAT16, fused=True)}
    assert exact == EXACT - {"beta", "value"} | {"sums_of_decays", "left", "past"}


def test_scales_of_tokens_lead_no_farther_back_or_on() -> None:
    before = [("Relu", ["hidden"], ["normed"]), *rounded("normed", "steps")]
    behind = [*rounded("gated", "given"), NODES[-1]]
    layer = [node for node in NODES[:-2] if node[2] != ["steps"]]
    graph = model([*before, *layer, *behind]).graph
    exact = {node.outputs[0].name for node in exact_nodes(graph, ir.DataType.FLOAT16, fused=True)}
    assert exact > EXACT
    assert not exact & {"normed", "projected", "convolved", "gate", "after"}


def test_states_that_it_carries_stay_in_fp32_and_those_of_convolutions_do_not() -> None:
    layer = model()
    to_half_precision(layer, "fp16", fused=True)
    graph = layer.graph
    types = {value.name: value.dtype for value in (*graph.inputs, *graph.outputs)}
    assert types == {
        "hidden": ir.DataType.FLOAT,
        "past_conv_state.0": ir.DataType.FLOAT16,
        "past_recurrent_state.0": ir.DataType.FLOAT,
        "after": ir.DataType.FLOAT16,
        "new_recurrent_state.0": ir.DataType.FLOAT,
    }
