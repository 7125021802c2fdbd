"""Recurrent layers of a graph that writes: in a step one operator each, with the maths of any other pass."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray

from rankport.runtime.backends.layouts.packed import step_inputs
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import TensorSpec

ROOM, LENGTHS = 9, [5, 8, 0]
OPERATORS = {"CausalConvWithState", "LinearAttention"}


@pytest.fixture(scope="module")
def model(hybrid_bundle: Bundle) -> ir.Model:
    return ir.load(hybrid_bundle.file(hybrid_bundle.graph("decode").file))


def branches(model: ir.Model, name: str) -> list[Counter[str]]:
    choices = (node.attributes[name].as_graph() for node in model.graph if node.op_type == "If")
    return [Counter(node.op_type for node in branch) for branch in choices]


def test_a_step_computes_one_operator_for_each_mixing_of_tokens(model: ir.Model) -> None:
    steps = branches(model, "then_branch")
    assert [sorted(step.keys() - {"Reshape"}) for step in steps] == [
        ["CausalConvWithState"],
        ["LinearAttention"],
        ["GroupQueryAttention"],
    ]
    assert max(step["Reshape"] for step in steps) <= 6
    # What only another pass needs is not computed in a step.
    assert not OPERATORS & {node.op_type for node in model.graph}
    assert [passed["LinearAttention"] for passed in branches(model, "else_branch")] == [0, 1, 0]


def test_heads_of_queries_and_keys_are_not_copied_in_a_step(model: ir.Model) -> None:
    choices = [node.attributes["then_branch"].as_graph() for node in model.graph if node.op_type == "If"]
    (attention,) = (node for branch in choices for node in branch if node.op_type == "LinearAttention")
    heads = [attention.attributes.get_int(f"{of}_num_heads", 0) for of in ("q", "kv")]
    assert heads == [2, 4]


def test_vectors_are_divided_by_their_length_in_one_operator(model: ir.Model) -> None:
    assert not [node for node in model.graph if node.op_type in ("ReduceSum", "Sqrt")]


def test_a_step_gives_what_any_other_pass_of_a_token_each_gives(hybrid_bundle: Bundle) -> None:
    graph = hybrid_bundle.graph("decode")
    session = onnxruntime.InferenceSession(hybrid_bundle.file(graph.file), providers=["CPUExecutionProvider"])
    names = [output.name for output in graph.outputs]
    random = np.random.default_rng(2)
    kept = [spec for spec in graph.inputs if spec.name.startswith("past_") and spec.name != "past_lengths"]
    past = {spec.name: drawn(spec, random) for spec in kept}
    lengths = np.array(LENGTHS, np.int64)
    inputs = step_inputs(random.integers(3, 60, len(LENGTHS)), lengths) | past | {"past_lengths": lengths}

    def run(in_place: int) -> dict[str, NDArray[np.float32]]:
        given = inputs | {"in_place": np.array([in_place], np.int64)}
        return dict(zip(names, session.run(names, given), strict=True))

    step, any_pass = run(1), run(0)
    states = [name for name in names if "state" in name]
    assert len(states) == 2
    for name in ("logits", *states):
        np.testing.assert_allclose(step[name], any_pass[name], atol=1e-4)
        assert not np.allclose(step[name][0], step[name][1])
    for part in ("key", "value"):
        written = step[f"new_{part}.0"][range(len(LENGTHS)), :, LENGTHS]
        np.testing.assert_allclose(written, any_pass[f"new_{part}.0"][:, :, 0], atol=1e-4)


def drawn(spec: TensorSpec, random: np.random.Generator) -> NDArray[np.float32]:
    """Draws a past: of several sequences, which have room for a token."""
    sizes = {"prefixes": len(LENGTHS), "past": ROOM}
    shape = [sizes[size] if isinstance(size, str) else size for size in spec.shape]
    return random.standard_normal(shape).astype(np.float32)
