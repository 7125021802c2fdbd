"""Attention that was traced whole has, in each of its forms, the maths of `PackedPrefix`."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from rankport.exporters.graphs.passes.step_attention import DOMAIN, OPERATOR, expand_attention
from rankport.exporters.kinds.decoders.packed_attention import PackedPrefix
from rankport.exporters.kinds.decoders.shared_prefix import Scoring

HEADS, KV_HEADS, SCALE = 4, 2, 0.3
IN_PLACE, BESIDE = 8, 12
"""Widths of heads for which the graph can write a token's KV in place, and for which it cannot."""

ROOM = 7
INTEGERS = ("slots", "token_slots", "past_lengths")
# slots, token_slots, lengths of the past: tokens of every prefix one; several; of one prefix alone, without a past.
PASSES = {
    "a token each": ([[[0]], [[1]], [[2]]], [0, 1, 2], [5, 1, 3]),
    "items": ([[[0, 1, 2], [3, 0, 0]], [[4, 5, 0], [0, 0, 0]]], [0, 1, 2, 3, 6, 7], [4, 2]),
    "a prompt": ([[[0, 1, 2, 3]]], [0, 1, 2, 3], [0]),
}


def shapes(dim: int) -> dict[str, list[str | int]]:
    return {
        "query": [1, "tokens", HEADS, dim],
        "key": [1, "tokens", KV_HEADS, dim],
        "value": [1, "tokens", KV_HEADS, dim],
        "past_key": ["prefixes", KV_HEADS, "past", dim],
        "past_value": ["prefixes", KV_HEADS, "past", dim],
        "slots": ["prefixes", "items", "item_tokens"],
        "token_slots": ["tokens"],
        "past_lengths": ["prefixes"],
    }


def attention(dim: int, scoring: Scoring) -> onnxruntime.InferenceSession:
    inputs = [
        ir.Value(
            name=name,
            shape=ir.Shape(shape),
            type=ir.TensorType(ir.DataType.INT64 if name in INTEGERS else ir.DataType.FLOAT),
        )
        for name, shape in shapes(dim).items()
    ]
    numbers = {"heads": HEADS, "kv_heads": KV_HEADS, "head_dim": dim, "scale": scoring.scale}
    numbers |= {"softcap": scoring.softcap or 0.0, "window": scoring.window or 0}
    sinks = [] if scoring.sinks is None else [ir.val("sinks", const_value=ir.tensor(scoring.sinks.numpy()))]
    node = ir.node(OPERATOR, [*inputs, *sinks], numbers, domain=DOMAIN, num_outputs=3)
    for output, name in zip(node.outputs, ("mixed", "new_key", "new_value"), strict=True):
        output.name, output.type = name, ir.TensorType(ir.DataType.FLOAT)
    opsets = {"": 21, "com.microsoft": 1}
    graph = ir.Graph(inputs, node.outputs, nodes=[node], initializers=sinks, opset_imports=opsets)
    model = ir.Model(graph, ir_version=10)
    assert expand_attention(model) is not None
    data = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def given(name: str, dim: int) -> dict[str, torch.Tensor]:
    slots, token_slots, lengths = PASSES[name]
    sizes = {"tokens": len(token_slots), "prefixes": len(lengths), "past": max(lengths)}
    generator = torch.Generator().manual_seed(len(token_slots))
    states = {
        part: torch.randn([sizes.get(str(size), size) for size in shape], generator=generator)
        for part, shape in shapes(dim).items()
        if part not in INTEGERS
    }
    integers = {"slots": slots, "token_slots": token_slots, "past_lengths": lengths}
    return states | {part: torch.tensor(numbers) for part, numbers in integers.items()}


def expected(inputs: dict[str, torch.Tensor], scoring: Scoring) -> list[NDArray[np.float32]]:
    past = [inputs["past_key"], inputs["past_value"]]
    prefix = PackedPrefix(inputs["slots"], inputs["token_slots"], inputs["past_lengths"], past)
    by_head = [inputs[part].transpose(1, 2) for part in ("query", "key", "value")]
    prefix.place(0, *by_head[1:])
    mixed, (key, value) = prefix.attend(0, *by_head, scoring)
    return [mixed.flatten(2).numpy(), key.numpy(), value.numpy()]


SCORINGS = {
    "plain": Scoring(SCALE),
    "capped": Scoring(SCALE, softcap=2.0),
    "within 2": Scoring(SCALE, window=2),
    "within 4, capped": Scoring(SCALE, softcap=2.0, window=4),
    "with sinks": Scoring(SCALE, sinks=torch.tensor([0.5, -1.0, 2.0, 0.0])),
    "with sinks, within 3": Scoring(SCALE, window=3, sinks=torch.tensor([0.5, -1.0, 2.0, 0.0])),
}


@pytest.mark.parametrize("dim", [IN_PLACE, BESIDE])
@pytest.mark.parametrize("scored", SCORINGS)
def test_every_pass_attends_as_packed_attention(dim: int, scored: str) -> None:
    scoring = SCORINGS[scored]
    session = attention(dim, scoring)
    for name in PASSES:
        inputs = given(name, dim)
        arrays = {part: value.numpy() for part, value in inputs.items()}
        if dim == IN_PLACE:
            arrays["in_place"] = np.zeros(1, np.int64)
        for result, right in zip(session.run(None, arrays), expected(inputs, scoring), strict=True):
            np.testing.assert_allclose(result, right, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("scored", SCORINGS)
def test_a_token_of_each_is_written_into_its_past_and_nothing_behind_is_read(scored: str) -> None:
    scoring = SCORINGS[scored]
    inputs = given("a token each", IN_PLACE)
    arrays = {part: value.numpy() for part, value in inputs.items()}
    lengths = arrays["past_lengths"]
    past = {part: with_room(arrays.pop(part), lengths) for part in ("past_key", "past_value")}
    before = {part: array.copy() for part, array in past.items()}
    session = attention(IN_PLACE, scoring)
    binding = session.io_binding()
    binding.bind_output("mixed")
    for part, array in past.items():
        memory = ("cpu", 0, np.float32, array.shape, array.ctypes.data)
        binding.bind_input(part, *memory)
        binding.bind_output(part.replace("past", "new"), *memory)
    for part, array in (arrays | {"in_place": np.ones(1, np.int64)}).items():
        binding.bind_cpu_input(part, array)
    session.run_with_iobinding(binding)
    mixed, *new = expected(inputs, scoring)
    np.testing.assert_allclose(binding.get_outputs()[0].numpy(), mixed, atol=1e-5)
    for (part, array), token in zip(past.items(), new, strict=True):
        before[part][range(len(lengths)), :, lengths] = token[:, :, 0]
        np.testing.assert_array_equal(array, before[part])


def with_room(past: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Copies a past into longer rows, which hold no number behind its tokens."""
    rows = np.full((*past.shape[:2], past.shape[2] + ROOM, past.shape[3]), np.nan, np.float32)
    for row, of, length in zip(rows, past, lengths, strict=True):
        row[:, :length] = of[:, :length]
    return rows
